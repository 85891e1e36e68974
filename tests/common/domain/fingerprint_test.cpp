#include <gtest/gtest.h>

#include <set>

#include "common/domain/spec.hpp"

namespace rackmark {
namespace {

const std::map<std::string, std::string> kLibraries = {{"onednn", "2.6.3"}, {"openmpi", "4.1.4"}};

JobSpec resolved(const std::string& text) {
  auto parsed = parse_spec(nlohmann::json::parse(text));
  EXPECT_TRUE(parsed) << parsed.error().message;
  auto spec = resolve_for_host(*parsed, {.numa_domains = 1, .physical_cores = 8});
  EXPECT_TRUE(spec) << spec.error().message;
  return *spec;
}
std::string digest(const std::string& text) {
  return fingerprint(resolved(text), "rev1", kLibraries, "cpu-a");
}

std::string with(std::string_view extra) {  // a spec of resnet50 with more members
  std::string text = R"({"model": "resnet50", )";
  text += extra;
  text += '}';
  return text;
}

// FIPS 180-4 and NIST's long message.
TEST(Sha256, KnownVectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Every length around the padding's edges gives another digest (a wrong pad collides or repeats).
TEST(Sha256, PaddingEdges) {
  std::set<std::string> seen;
  for (std::size_t length = 0; length <= 200; ++length) {
    EXPECT_TRUE(seen.insert(sha256_hex(std::string(length, 'x'))).second) << length;
  }
  EXPECT_EQ(sha256_hex(std::string(64, 'x')),
            "7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd6219506b5393c");
}

// A changed digest ends every series: change it only together with the fingerprint's version.
// The values were computed with Python's json (sorted keys, no blanks) and hashlib.
TEST(Fingerprint, Golden) {
  EXPECT_EQ(digest(R"({"model": "resnet50"})"),
            "e004e7a1f567ea15520246711995cc6e0a63b73afa31d2866e26cc8299c1af39");
  EXPECT_EQ(digest(R"({"model": "resnet50", "batch_size": 16, "variable_update": "independent",
                       "steps": {"measured": 20, "warmup": 2}})"),
            "32cd3b8b6ed589604142d6bdc82809c0336e938ac55494f21956d08a0530182c");
}

TEST(Fingerprint, DefaultsWrittenOutChangeNothing) {
  EXPECT_EQ(digest(R"({"model": "resnet50"})"),
            digest(R"({"model": "resnet50", "mode": "training", "batch_size": 32, "seed": 1,
                       "steps": {"warmup": 10, "measured": 100},
                       "all_reduce": {"overlap": true}})"));
}

TEST(Fingerprint, WhatIsNotMeasuredIsNotInIt) {
  const std::string plain = digest(R"({"model": "resnet50"})");
  for (const char* extra : {R"("name": "night")", R"("labels": {"a": "b"})", R"("timeout_s": 60)",
                            R"("stall_s": 60)", R"("retries": 0)", R"("repetitions": 5)",
                            R"("resources": {"selector": {"name": "host-1"}})"}) {
    EXPECT_EQ(digest(with(extra)), plain) << extra;
  }
}

TEST(Fingerprint, WhatIsMeasuredIsInIt) {
  std::set<std::string> seen = {digest(R"({"model": "resnet50"})")};
  for (const char* extra :
       {R"("batch_size": 16)",
        R"("image_size": 128)",
        R"("classes": 10)",
        R"("seed": 2)",
        R"("optimizer": {"learning_rate": 0.1})",
        R"("optimizer": {"momentum": 0})",
        R"("optimizer": {"weight_decay": 0})",
        R"("variable_update": "independent")",
        R"("variable_update": "parameter_server")",
        R"("all_reduce": {"overlap": false})",
        R"("all_reduce": {"bucket_bytes": 4096})",
        R"("resources": {"workers_per_agent": 2})",
        R"("resources": {"threads_per_worker": 1})",
        R"("input": {"kind": "images", "path": "/data/a"})",
        R"("input": {"kind": "images", "path": "/data/b"})",
        R"("input": {"kind": "packed", "path": "/data/b"})",
        R"("input": {"kind": "packed", "path": "/data/b", "augment": {"flip": true}})",
        R"("input": {"kind": "packed", "path": "/data/b", "augment": {"crop": true}})",
        R"("steps": {"measured": 50})",
        R"("steps": {"warmup": 0})",
        R"("steps": {"measured_seconds": 10})"}) {
    EXPECT_TRUE(seen.insert(digest(with(extra))).second) << extra;
  }
}

TEST(Fingerprint, EngineLibrariesAndDeviceClassAreInIt) {
  const JobSpec spec = resolved(R"({"model": "resnet50"})");
  const std::string plain = fingerprint(spec, "rev1", kLibraries, "cpu-a");
  EXPECT_NE(fingerprint(spec, "rev2", kLibraries, "cpu-a"), plain);
  EXPECT_NE(fingerprint(spec, "rev1", {{"onednn", "3.1"}}, "cpu-a"), plain);
  EXPECT_NE(fingerprint(spec, "rev1", kLibraries, "cpu-b"), plain);
  EXPECT_EQ(plain.size(), 64u);
}

}  // namespace
}  // namespace rackmark
