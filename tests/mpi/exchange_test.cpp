// Every way to exchange gradients, over real MPI: what it computes, and how it ends.
#include "tests/mpi/ranks.hpp"

namespace rackmark::mpi_test {
namespace {

class Exchange : public Ranks {
 protected:
  // A network without batch norm, whose statistics would be those of each rank. With `total`
  // pictures a step over all workers, every number of workers sees the same pictures in every step
  // (16 of them, in an order that depends on the seed alone).
  json job(int workers, int total, const json& changes) const {
    json s = {
        {"model", "cifar10"},
        {"batch_size", total / workers},
        {"image_size", 24},
        {"optimizer", {{"learning_rate", 0.05}, {"momentum", 0.9}}},
        {"steps", {{"warmup", 0}, {"measured", 10}}},
        {"input", {{"kind", "images"}, {"path", RACKMARK_SOURCE_DIR "/tests/golden/pictures"}}}};
    // More workers than this host has cores play several hosts.
    if (workers > 2) {
      const int hosts = workers % 2 == 0 ? workers / 2 : workers;
      s["resources"] = {{"agents", hosts}, {"workers_per_agent", workers / hosts}};
    }
    s.merge_patch(changes);
    return s;
  }
  static json server(const json& parameter_server) {
    return {{"variable_update", "parameter_server"}, {"parameter_server", parameter_server}};
  }
  static json with_steps(json changes, int steps) {
    changes["steps"] = {{"measured", steps}};
    return changes;
  }

  // Runs it; the parameters are in `name`.bin.
  Outcome train(const std::string& name, int workers, const json& changes, int servers = 0) const {
    const std::string file = spec(name + ".json", workers, job(workers, 8, changes));
    const int ranks = workers + servers;
    const std::string launch = ranks == 1 ? "" : kMpirun + ("-n " + std::to_string(ranks)) + " ";
    Outcome outcome =
        run(launch + kWorker + "--spec " + file + " --dump-parameters " + path(name + ".bin"));
    EXPECT_EQ(outcome.status, 0) << name << ": " << outcome.err;
    return outcome;
  }

  static std::vector<double> losses(const Outcome& outcome, int rank) {
    std::vector<double> all;
    for (const json& steps : outcome.events("steps")) {
      if (steps.at("rank") != rank) continue;
      for (const json& loss : steps.at("loss")) all.push_back(loss.get<double>());
    }
    return all;
  }
  static std::string label(const Outcome& outcome) {
    for (const json& hello : outcome.events("hello")) {
      if (hello.at("rank") == 0) return hello.at("variable_update");
    }
    return "";
  }
};

TEST_F(Exchange, EveryExactOneGivesTheWeightsOfOneWorkerWithTheWholeBatch) {
  train("one", 1, {{"variable_update", "independent"}});
  const auto same = [&](const std::string& name, double tolerance = 1e-5) {
    bool bitwise = false;
    const double worst = distance(name + ".bin", "one.bin", &bitwise);
    EXPECT_LT(worst, tolerance) << name;
    std::printf("%-28s differs by %.2g from one worker\n", name.c_str(), worst);
  };
  for (const int workers : {2, 4}) {
    const std::string name = std::to_string(workers) + "-all_reduce";
    train(name, workers, {{"all_reduce", {{"bucket_bytes", 1048576}}}});
    same(name);
  }
  for (const int workers : {1, 2, 4}) {
    for (const int servers : {1, 3}) {
      const std::string name = std::to_string(workers) + "-servers" + std::to_string(servers);
      train(name, workers, server({{"servers", servers}, {"shard_bytes", 524288}}));
      same(name);
    }
  }
  const Outcome dedicated =
      train("dedicated", 2, server({{"servers", 2}, {"placement", "dedicated"}}), 2);
  same("dedicated");
  EXPECT_EQ(label(dedicated), "parameter_server (2 workers, 2 dedicated servers)");
  EXPECT_EQ(dedicated.events("summary").size(), 4U);
  for (const json& summary : dedicated.events("summary")) {
    EXPECT_EQ(summary.at("images"), summary.at("rank") < 2 ? 40 : 0);
    EXPECT_GT(summary.at("end_ns"), summary.at("start_ns"));
    EXPECT_TRUE(summary.at("host").is_object()) << "what a server uses is not foreign";
  }
}

// A learning rate at which a rounded weight does not choose another winner of a max pool.
TEST_F(Exchange, AlgorithmsAreForcedByNameAndSixteenBitsAreClose) {
  const json calm = {{"optimizer", {{"learning_rate", 0.001}}}};
  const auto train = [&](const std::string& name, json changes) {
    changes.update(calm);
    return Exchange::train(name, 3, changes);
  };
  train("exact", json::object());
  bool bitwise = false;
  for (const char* algorithm : {"ring", "recursive_doubling", "rabenseifner"}) {
    const Outcome outcome = train(algorithm, {{"all_reduce", {{"algorithm", algorithm}}}});
    EXPECT_EQ(label(outcome), std::string("all_reduce (") + algorithm + ")");
    EXPECT_LT(distance(std::string(algorithm) + ".bin", "exact.bin", &bitwise), 1e-5);
  }
  for (const auto& [wire, tolerance] : {std::pair{"fp16", 2e-3}, std::pair{"bf16", 1.5e-2}}) {
    const Outcome reduced = train(wire, {{"all_reduce", {{"wire", wire}}}});
    EXPECT_EQ(label(reduced), std::string("all_reduce (") + wire + " wire)");
    const double worst = distance(std::string(wire) + ".bin", "exact.bin", &bitwise);
    EXPECT_LT(worst, tolerance) << wire;
    EXPECT_GT(worst, 0) << wire;
    train(std::string("server-") + wire, server({{"servers", 2}, {"wire", wire}}));
    EXPECT_LT(distance("server-" + std::string(wire) + ".bin", "exact.bin", &bitwise), tolerance);
  }
}

// 16 pictures of 4 classes are learnt to a loss far below ln 4 = 1.386, though every worker uses
// weights that miss some of the other's gradients.
TEST_F(Exchange, AsyncConverges) {
  json changes = with_steps(server({{"consistency", "async"}}), 150);
  changes["optimizer"] = {{"learning_rate", 0.003}, {"momentum", 0.5}};
  const Outcome outcome = train("async", 2, changes);
  for (const int rank : {0, 1}) {
    const std::vector<double> all = losses(outcome, rank);
    ASSERT_EQ(all.size(), 150U);
    double late = 0;
    for (std::size_t i = 130; i < 150; ++i) late += all[i] / 20;
    EXPECT_GT(all.front(), 1.0);
    EXPECT_LT(late, 0.4) << "rank " << rank;
  }
}

// One rank is stopped for a while again and again: the other runs ahead of it as far as it may.
TEST_F(Exchange, StalenessIsSeenInAsyncAndNeverExceedsTheBound) {
  const auto longest = [&](const json& rules) {
    json changes = with_steps(server(rules), 60);
    changes["optimizer"] = {{"learning_rate", 0.0005}};
    const json job_of = job(2, 8, changes);
    const std::string file = spec("stale.json", 2, job_of);
    std::thread slow([this] {
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
      for (int turn = 0; turn < 20; ++turn) {
        for (const json& hello : Outcome{0, read("out"), ""}.events("hello")) {
          if (hello.at("rank") != 1) continue;
          const auto pid = hello.at("pid").get<pid_t>();
          ::kill(pid, SIGSTOP);
          std::this_thread::sleep_for(std::chrono::milliseconds(150));
          ::kill(pid, SIGCONT);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
    });
    const Outcome outcome = run(kMpirun + ("-n 2 " + kWorker) + "--spec " + file);
    slow.join();
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    std::size_t steps = 0;
    for (const json& summary : outcome.events("summary")) {
      const auto histogram = summary.at("staleness").get<std::vector<std::int64_t>>();
      EXPECT_FALSE(histogram.empty());
      if (!histogram.empty()) steps = std::max(steps, histogram.size() - 1);
    }
    return steps;
  };
  EXPECT_GT(longest({{"consistency", "async"}}), 2U);
  const std::size_t bounded = longest({{"consistency", "bounded"}, {"staleness", 2}});
  EXPECT_LE(bounded, 2U);
  EXPECT_GT(bounded, 0U);
}

TEST_F(Exchange, ADeadServerEndsTheWorkers) {
  json changes = with_steps(server({{"placement", "dedicated"}}), 1000000);
  changes["optimizer"] = {{"learning_rate", 0.0001}};
  const json job_of = job(2, 8, changes);
  const std::string file = spec("long.json", 2, job_of);
  std::thread killer([this] {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < give_up) {
      const Outcome seen{0, read("out"), ""};
      if (seen.events("steps").size() > 3) {
        for (const json& hello : seen.events("hello")) {
          if (hello.at("rank") == 2) ::kill(hello.at("pid").get<pid_t>(), SIGKILL);
        }
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  });
  const Outcome outcome = run(kMpirun + ("-n 3 " + kWorker) + "--spec " + file);
  killer.join();
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.status, 124) << "ended by the time-out";
  EXPECT_TRUE(outcome.events("summary").empty());
}

TEST_F(Exchange, AServerWithoutRoomIsOutOfMemory) {
  const std::string file =
      " --spec " + spec("full.json", 1, job(1, 8, server({{"placement", "dedicated"}})));
  const Outcome outcome = run(kMpirun + ("-n 1 " + kWorker) + file +
                              " : -n 1 prlimit --as=450000000 " + kWorker + file);
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  const json refused = outcome.events("out_of_memory").at(0);
  EXPECT_EQ(refused.at("rank"), 1);
  EXPECT_GT(refused.at("bytes_wanted"), refused.at("bytes_free"));
}

TEST_F(Exchange, SecondsEndServedWorkersEachInItsOwnWay) {
  for (const char* consistency : {"sync", "async"}) {
    json seconds = job(2, 8, server({{"consistency", consistency}}));
    seconds["optimizer"] = {{"learning_rate", 0.0005}};
    seconds["steps"] = {{"measured", nullptr}, {"measured_seconds", 1}};
    const Outcome outcome =
        run(kMpirun + ("-n 2 " + kWorker) + "--spec " + spec("seconds.json", 2, seconds));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const auto summaries = outcome.events("summary");
    ASSERT_EQ(summaries.size(), 2U);
    if (std::string(consistency) == "sync") {
      EXPECT_EQ(summaries[0].at("steps"), summaries[1].at("steps"));
    }
  }
}

}  // namespace
}  // namespace rackmark::mpi_test
