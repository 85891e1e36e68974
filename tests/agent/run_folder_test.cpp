#include "agent/runs/run_folder.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/agent/support/temp_folder.hpp"

namespace rackmark::agent {
namespace {

namespace fs = std::filesystem;

TEST(ResolveInput, OnlyWhatReallyLiesInsideADataRoot) {
  TempFolder folder;
  const fs::path root = folder.path() / "data", other = folder.path() / "data-private";
  fs::create_directories(root / "pictures");
  fs::create_directories(other);
  fs::create_symlink(other, root / "way-out");
  fs::create_symlink(root / "pictures", other / "way-in");
  const std::vector<std::string> roots{root.string()};
  const auto real = fs::canonical(root / "pictures");
  EXPECT_EQ(resolve_input((root / "pictures").string(), roots), real);
  EXPECT_EQ(resolve_input("pictures", roots), real);
  EXPECT_EQ(resolve_input("./pictures/../pictures/", roots), real);
  EXPECT_EQ(resolve_input((other / "way-in").string(), roots), real);
  EXPECT_EQ(resolve_input(root.string(), roots), fs::canonical(root));
  for (const std::string& bad :
       {other.string(), (root / "way-out").string(), std::string("../data-private"),
        std::string("/etc"), std::string(""), (root / "absent").string(),
        (root / "pictures").string() + std::string("\0x", 2)})
    EXPECT_EQ(resolve_input(bad, roots), std::nullopt) << bad;
  EXPECT_EQ(resolve_input((root / "pictures").string(), {}), std::nullopt);
}

TEST(Scratch, IsPrivateFreshAndNamedAfterAgentAndRun) {
  TempFolder folder;
  const fs::path first = make_scratch("cafe0001", 7, folder.path());
  EXPECT_EQ(first.filename(), "rackmark-cafe0001-7");
  struct stat info {};
  ASSERT_EQ(::stat(first.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  std::ofstream(first / "left") << "over";
  const fs::path second = make_scratch("cafe0001", 7, folder.path());
  EXPECT_TRUE(fs::is_empty(second));
  fs::remove_all(second);
}

TEST(RunFolder, KeepsTheRecordWithoutItsToken) {
  TempFolder folder;
  const RunFolder run(folder.path(), 12);
  EXPECT_FALSE(run.read_record());
  run.create();
  RunRecord record{
      {.run_id = 12, .job_id = 3, .spec = {{"model", "resnet50"}}, .run_token = "secret"}, 77, 88};
  run.write_record(record);
  const auto read = run.read_record();
  ASSERT_TRUE(read);
  EXPECT_EQ(read->wanted.job_id, 3);
  EXPECT_EQ(read->guard_pid, 77);
  EXPECT_EQ(read->wanted.run_token, "");
  EXPECT_EQ(list_run_folders(folder.path()), std::vector<std::int64_t>{12});
}

}  // namespace
}  // namespace rackmark::agent
