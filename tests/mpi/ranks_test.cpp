// The worker under mpirun: real processes, real MPI, the fastest backend.
#include "tests/mpi/ranks.hpp"

namespace rackmark::mpi_test {
namespace {

class MicroBatches : public Ranks, public ::testing::WithParamInterface<const char*> {};

// GoogLeNet has dropout: its masks must not depend on who plays a rank.
TEST_P(MicroBatches, OfOneRankAreTwoRanks) {
  const json model = {{"model", GetParam()}, {"all_reduce", {{"bucket_bytes", 4194304}}}};
  const Outcome two = run(kMpirun + ("-n 2 " + kWorker) + "--spec " + spec("two.json", 2, model) +
                          " --dump-parameters " + path("two.bin"));
  ASSERT_EQ(two.status, 0) << two.err;
  const Outcome one = run(kWorker + "--spec " + spec("one.json", 1, model) +
                          " --micro-batches 2 --dump-parameters " + path("one.bin"));
  ASSERT_EQ(one.status, 0) << one.err;
  bool bitwise = false;
  EXPECT_LE(distance("two.bin", "one.bin", &bitwise), 1e-6);
  std::printf("two ranks and two micro-batches: %s\n", bitwise ? "bitwise equal" : "equal to 1e-6");

  const auto hello = two.events("hello");
  ASSERT_EQ(hello.size(), 2U);
  EXPECT_EQ(hello[0].at("ranks"), 2);
  EXPECT_EQ(hello[0].at("variable_update"), "all_reduce");
  EXPECT_TRUE(hello[0].at("libraries").contains("openmpi"));
  const auto summaries = two.events("summary");
  ASSERT_EQ(summaries.size(), 2U);
  EXPECT_NE(summaries[0].at("first_loss"), summaries[1].at("first_loss")) << "ranks saw other data";
  for (const json& summary : summaries) {
    EXPECT_EQ(summary.at("steps"), 3);
    EXPECT_EQ(summary.at("images"), 6);
  }
}
// Else worker/sched_yield.cpp would be there for nothing.
TEST_F(Ranks, TheMpiLibraryYieldsAsTheWorkerSays) {
  const Outcome outcome =
      run("env LD_BIND_NOW=1 LD_DEBUG=bindings LD_DEBUG_OUTPUT=" + path("bound") + " " + kMpirun +
          "-n 2 " + kWorker + "--spec " + spec("two.json", 2, {{"steps", {{"measured", 1}}}}));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  int bound = 0;
  for (const auto& file : fs::directory_iterator(folder_)) {
    if (!file.path().filename().string().starts_with("bound.")) continue;
    std::istringstream lines(read(file.path().filename()));
    for (std::string line; std::getline(lines, line);) {
      if (line.find("`sched_yield'") == std::string::npos) continue;
      if (line.find("libopen-pal") == std::string::npos) continue;
      bound += line.find("/rackmark-worker [") != std::string::npos;
    }
  }
  EXPECT_EQ(bound, 2);
}

INSTANTIATE_TEST_SUITE_P(Models, MicroBatches, ::testing::Values("resnet50", "googlenet"));

TEST_F(Ranks, TheServersWeightsAreThoseOfTheBackendsOwnUpdate) {
  const Outcome plain =
      run(kWorker + "--spec " + spec("plain.json", 1) + " --dump-parameters " + path("plain.bin"));
  ASSERT_EQ(plain.status, 0) << plain.err;
  const Outcome server =
      run(kWorker + "--spec " + spec("ps.json", 1, {{"variable_update", "parameter_server"}}) +
          " --dump-parameters " + path("ps.bin"));
  ASSERT_EQ(server.status, 0) << server.err;
  bool bitwise = false;
  EXPECT_LE(distance("plain.bin", "ps.bin", &bitwise), 1e-6);
  std::printf("server and plain update: %s\n", bitwise ? "bitwise equal" : "equal to 1e-6");
  EXPECT_EQ(server.events("hello").at(0).at("variable_update"),
            "parameter_server (1 worker, colocated server)");
}

TEST_F(Ranks, MeasuredSecondsEndForAllAtTheSameStep) {
  const Outcome outcome = run(
      kMpirun + ("-n 2 " + kWorker) + "--spec " +
      spec("s.json", 2,
           {{"image_size", 32}, {"steps", {{"measured", nullptr}, {"measured_seconds", 1.5}}}}));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto summaries = outcome.events("summary");
  ASSERT_EQ(summaries.size(), 2U);
  EXPECT_EQ(summaries[0].at("steps"), summaries[1].at("steps"));
  EXPECT_GE(summaries[0].at("end_ns").get<double>() - summaries[0].at("start_ns").get<double>(),
            1.4e9);
}

TEST_F(Ranks, AKilledRankEndsTheOther) {
  const std::string command = kMpirun + ("-n 2 " + kWorker) + "--spec " +
                              spec("long.json", 2, {{"steps", {{"measured", 100000}}}}) + " >" +
                              path("out") + " 2>" + path("err") + " </dev/null & echo $! > " +
                              path("pid");
  ASSERT_EQ(std::system(command.c_str()), 0);
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  Outcome seen;
  while (seen.events("steps").size() < 2 && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    seen.out = read("out");
  }
  const auto hello = seen.events("hello");
  ASSERT_EQ(hello.size(), 2U) << read("err");
  const pid_t victim = hello[1].at("pid").get<pid_t>(), peer = hello[0].at("pid").get<pid_t>();
  ASSERT_EQ(::kill(victim, SIGKILL), 0);
  const auto killed = std::chrono::steady_clock::now();
  while (::kill(peer, 0) == 0 &&
         std::chrono::steady_clock::now() < killed + std::chrono::seconds(30)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_NE(::kill(peer, 0), 0) << "the other rank hangs";
  EXPECT_TRUE(Outcome({0, read("out"), ""}).events("summary").empty());
}

TEST_F(Ranks, AnotherSpecOnOneRankIsRefused) {
  const Outcome outcome = run(kMpirun + ("-n 1 " + kWorker) + "--spec " + spec("a.json", 2) +
                              " : -n 1 " + kWorker + "--spec " + spec("b.json", 2, {{"seed", 2}}));
  EXPECT_NE(outcome.status, 0);
  EXPECT_THAT(outcome.err, HasSubstr("launch_failed: rank 1 on host "));
  EXPECT_THAT(outcome.err, HasSubstr("has another spec than rank 0"));
  EXPECT_TRUE(outcome.events("steps").empty());
}

TEST_F(Ranks, AnotherMemoryLayoutOnOneRankIsRefused) {
  const std::string file = spec("a.json", 2, {{"image_size", 32}});
  const Outcome outcome =
      run(kMpirun + ("-n 1 " + kWorker) + "--spec " + file + " --backend onednn : -n 1 " + kWorker +
          "--spec " + file + " --backend reference");
  EXPECT_NE(outcome.status, 0);
  EXPECT_THAT(outcome.err, HasSubstr("has another memory layout than rank 0"));
  const auto failures = outcome.events("failure");
  ASSERT_FALSE(failures.empty());
  EXPECT_EQ(failures[0].at("reason"), "launch_failed");
}

TEST_F(Ranks, TheWrongNumberOfRanksIsRefused) {
  const Outcome outcome = run(kWorker + "--spec " + spec("two.json", 2));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, HasSubstr("the spec wants 2 workers, 1 were started"));
}

TEST_F(Ranks, TfOutputComesFromRankZeroOnly) {
  const Outcome outcome = run(kMpirun + ("-n 2 " + kWorker) + "--output tf --spec " +
                              spec("s.json", 2, {{"image_size", 32}}));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  std::size_t totals = 0;
  for (std::size_t at = 0; (at = outcome.out.find("total images/sec: ", at)) != std::string::npos;
       ++at)
    ++totals;
  EXPECT_EQ(totals, 1U);
  EXPECT_THAT(outcome.out, HasSubstr("Batch size:  4 global"));
  EXPECT_THAT(outcome.out, HasSubstr("Step\tImg/sec\ttotal_loss\n1\timages/sec: "));
}

class Learning : public Ranks, public ::testing::WithParamInterface<int> {};

// 16 pictures of 4 classes (tests/golden/pictures), all of them in every batch.
TEST_P(Learning, FixedPicturesAreLearnt) {
  const Outcome outcome =
      run(kWorker + "--spec " +
          spec("learn.json", 1,
               {{"batch_size", 16},
                {"seed", GetParam()},
                {"optimizer", {{"learning_rate", 0.01}}},
                {"steps", {{"measured", 20}}},
                {"input",
                 {{"kind", "images"}, {"path", RACKMARK_SOURCE_DIR "/tests/golden/pictures"}}}}));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  std::vector<double> losses;
  for (const json& steps : outcome.events("steps")) {
    for (const json& loss : steps.at("loss")) losses.push_back(loss.get<double>());
  }
  ASSERT_EQ(losses.size(), 20U);
  double early = 0, late = 0;
  for (std::size_t i = 0; i < 5; ++i) early += losses[i], late += losses[15 + i];
  EXPECT_LT(late, 0.7 * early);
  const json summary = outcome.events("summary").at(0);
  EXPECT_EQ(summary.at("pictures_broken"), 0);
  EXPECT_GE(summary.at("pictures_read").get<int>(), 320);
}
INSTANTIATE_TEST_SUITE_P(Seeds, Learning, ::testing::Values(1, 2));

TEST_F(Ranks, RefusedSpecsAreOneLineEachAndRunNothing) {
  const Outcome outcome =
      run(kWorker + "--spec " + spec("bad.json", 1, {{"batch_sise", 3}, {"precision", "fp12"}}));
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 2) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("batch_sise"));
  EXPECT_THAT(outcome.err,
              HasSubstr("precision: field 'precision' (\"fp12\") is not allowed (allowed: "));
  std::ofstream(path("broken.json")) << "{\"model\": ";
  EXPECT_EQ(run(kWorker + "--spec " + path("broken.json")).status, 2);
  EXPECT_EQ(run(kWorker + "--spec " + path("absent.json")).status, 2);
  EXPECT_EQ(run(kWorker + "--no-such-flag").status, 2);
}

TEST_F(Ranks, OutOfMemoryIsAnAnswer) {
  const Outcome outcome =
      run(kWorker + "--spec " + spec("huge.json", 1, {{"batch_size", 60000}, {"image_size", 224}}));
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  const json event = outcome.events("out_of_memory").at(0);
  EXPECT_EQ(event.at("batch_size"), 60000);
  EXPECT_GT(event.at("bytes_wanted").get<double>(), event.at("bytes_free").get<double>());
}

TEST_F(Ranks, MissingInputIsAFailureEvent) {
  const Outcome outcome =
      run(kWorker + "--spec " +
          spec("none.json", 1, {{"input", {{"kind", "images"}, {"path", path("none")}}}}));
  EXPECT_EQ(outcome.status, 1);
  const json event = outcome.events("failure").at(0);
  EXPECT_EQ(event.at("reason"), "input_unavailable");
  EXPECT_THAT(event.at("detail").get<std::string>(), HasSubstr(path("none")));
}

TEST_F(Ranks, SigtermEndsCleanly) {
  const Outcome outcome = run("timeout --preserve-status -s TERM 4 " + kWorker + "--spec " +
                              spec("long.json", 1, {{"steps", {{"measured", 100000}}}}));
  EXPECT_EQ(outcome.status, 143) << outcome.err;
  EXPECT_TRUE(outcome.events("summary").empty());
  EXPECT_THAT(outcome.err, HasSubstr("ended by a signal"));
}

// Under a limit of addresses: the batch found runs, one more is refused before memory is taken.
TEST_F(Ranks, TheLargestBatchRunsAndOneMoreIsRefused) {
  const std::string limited = "prlimit --as=1100000000 " + kWorker;
  const json tiny = {{"image_size", 96}, {"steps", {{"warmup", 0}, {"measured", 1}}}};
  const auto with_batch = [&](const char* name, int workers, const json& batch) {
    json changes = tiny;
    changes["batch_size"] = batch;
    return spec(name, workers, changes);
  };
  const Outcome found = run(limited + "--spec " + with_batch("max.json", 1, "max"));
  ASSERT_EQ(found.status, 0) << found.err;
  ASSERT_EQ(found.events("hello").size(), 1U);
  const json hello = found.events("hello")[0];
  const json& search = hello.at("batch_search");
  const int batch = search.at("batch_size");
  EXPECT_EQ(hello.at("batch_size"), batch);
  EXPECT_EQ(search.at("limited_by"), "RLIMIT_AS");
  EXPECT_LE(search.at("bytes_wanted"), search.at("bytes_free"));
  EXPECT_LE(search.at("probes"), 10);
  EXPECT_EQ(found.events("summary").at(0).at("images"), batch);

  const Outcome more = run(limited + "--spec " + with_batch("more.json", 1, batch + 1));
  EXPECT_EQ(more.status, 3) << more.err;
  ASSERT_EQ(more.events("out_of_memory").size(), 1U);
  const json refused = more.events("out_of_memory")[0];
  EXPECT_EQ(refused.at("batch_size"), batch + 1);
  EXPECT_EQ(refused.at("model"), "resnet50");
  EXPECT_EQ(refused.at("precision"), "fp32");
  EXPECT_GT(refused.at("bytes_wanted"), refused.at("bytes_free"));
  EXPECT_EQ(refused.at("limited_by"), "RLIMIT_AS");
  EXPECT_TRUE(more.events("hello").empty()) << "refused before anything was taken";

  const Outcome none =
      run("prlimit --as=500000000 " + kWorker + "--spec " + with_batch("none.json", 1, "max"));
  EXPECT_EQ(none.status, 3) << none.err;
  EXPECT_EQ(none.events("out_of_memory").at(0).at("batch_size"), 1);
}

// Before an int8 plan come the one that settles statistics and the fp32 one that it is compared
// with.
TEST_F(Ranks, TheLargestInt8BatchIsOneThatCanBeSetUp) {
  const auto with_batch = [&](const char* name, const json& batch) {
    return spec(name, 1,
                {{"mode", "inference"},
                 {"precision", "int8"},
                 {"batch_size", batch},
                 {"steps", {{"measured", 1}}}});
  };
  const std::string limited = "prlimit --as=1000000000 " + kWorker + "--spec ";
  const Outcome found = run(limited + with_batch("max.json", "max"));
  ASSERT_EQ(found.status, 0) << found.err;
  const json hello = found.events("hello").at(0);
  const int batch = hello.at("batch_size");
  EXPECT_LT(found.events("summary").at(0).at("peak_rss_bytes").get<double>(),
            hello.at("arena_bytes").get<double>() + 150e6)
      << "what was there before the first step is not part of it";
  const Outcome more = run(limited + with_batch("more.json", batch + 1));
  EXPECT_EQ(more.status, 3) << more.err;
  EXPECT_TRUE(more.events("hello").empty()) << "refused before anything was taken";
  const Outcome none =
      run("prlimit --as=800000000 " + kWorker + "--spec " + with_batch("none.json", "max"));
  EXPECT_EQ(none.status, 3) << none.err;
  EXPECT_EQ(none.events("out_of_memory").at(0).at("batch_size"), 1);
}

// Both find their own largest batch and take the smaller one.
TEST_F(Ranks, RanksAgreeOnTheLargestBatch) {
  const std::string file = spec(
      "max.json", 2,
      {{"batch_size", "max"}, {"image_size", 96}, {"steps", {{"warmup", 0}, {"measured", 1}}}});
  const Outcome two =
      run(std::string(kMpirun) + "-n 1 prlimit --as=1150000000 " + kWorker + "--spec " + file +
          " : -n 1 prlimit --as=1250000000 " + kWorker + "--spec " + file);
  ASSERT_EQ(two.status, 0) << two.err;
  const auto hello = two.events("hello");
  ASSERT_EQ(hello.size(), 2U);
  EXPECT_EQ(hello[0].at("batch_size"), hello[1].at("batch_size"));
  const json &first = hello[0].at("batch_search"), &second = hello[1].at("batch_search");
  EXPECT_NE(first.at("bytes_free"), second.at("bytes_free"));
  EXPECT_THAT((std::vector<std::string>{first.at("limited_by"), second.at("limited_by")}),
              testing::UnorderedElementsAre("RLIMIT_AS", "another rank"));
}

}  // namespace
}  // namespace rackmark::mpi_test
