// Starting and stopping: in this process for what can be refused, as the real program for signals.
#include "controller/app.hpp"

#include <gmock/gmock.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "tests/controller/api/controller_fixture.hpp"
#include "tests/support/raw_connection.hpp"

namespace rackmark::test {
namespace {
namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::HasSubstr;

std::string why_not(ControllerConfig config) {
  try {
    ControllerApp app(std::move(config));
    app.start();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

class AppTest : public testing::Test {
 protected:
  AppTest() {
    std::string pattern = (fs::temp_directory_path() / "rackmark-app-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
  }
  ~AppTest() override { fs::remove_all(dir_); }
  ControllerConfig config() {
    ControllerConfig config;
    config.port = 0;
    config.state_dir = dir_ / "state";
    return config;
  }
  fs::path dir_;
};

TEST_F(AppTest, TheStateFolderIsPrivateAndHeldByOne) {
  TestController first;
  ControllerConfig second = config();
  second.state_dir = first.dir() / "state";
  struct stat info {};
  ASSERT_EQ(::stat(second.state_dir.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  EXPECT_THAT(why_not(second), HasSubstr("is in use by another rackmark-controller"));
}

TEST_F(AppTest, APortInUseIsNamed) {
  TestController first;
  ControllerConfig second = config();
  second.port = static_cast<std::uint16_t>(first.port());
  EXPECT_EQ(why_not(second), "cannot listen on 127.0.0.1 port " + std::to_string(first.port()) +
                                 ": Address already in use");
}

TEST_F(AppTest, ListeningBeyondLoopbackMustBeSaid) {
  ControllerConfig open = config();
  open.address = "0.0.0.0";
  EXPECT_THAT(why_not(open), HasSubstr("--allow-remote"));
  EXPECT_FALSE(fs::exists(open.state_dir)) << "refused before anything is made";
  open.allow_remote = true;
  EXPECT_EQ(why_not(open), "");
}

TEST_F(AppTest, AFileThatIsNoDatabaseIsSaidSo) {
  fs::create_directories(dir_ / "state");
  std::ofstream(dir_ / "state/rackmark.db") << std::string(8192, 'x');
  EXPECT_THAT(why_not(config()), HasSubstr("rackmark.db"));
}

TEST_F(AppTest, ANewerDatabaseIsRefused) {
  EXPECT_EQ(why_not(config()), "");
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir_ / "state/rackmark.db").c_str(), &db), SQLITE_OK);
  const char* newer = "INSERT INTO schema_migrations VALUES (9999, '9999_later', 'x', 0)";
  EXPECT_EQ(sqlite3_exec(db, newer, nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  EXPECT_THAT(why_not(config()), HasSubstr("start a newer rackmark-controller"));
}

TEST_F(AppTest, ListenTextsAreCheckedStrictly) {
  ControllerConfig c;
  ASSERT_TRUE(parse_listen("127.0.0.1:8780", c));
  EXPECT_EQ(c.port, 8780);
  ASSERT_TRUE(parse_listen("[::1]:0", c));
  EXPECT_EQ(c.address, "::1");
  ASSERT_TRUE(parse_listen("localhost:1", c));
  EXPECT_EQ(c.address, "127.0.0.1");
  for (const char* text : {"", "127.0.0.1", "8780", "example.org:80", "127.0.0.1:x", ":8780",
                           "127.0.0.1:99999", "127.0.0.1:", "[::1", "127.0.0.1.evil:80"}) {
    EXPECT_FALSE(parse_listen(text, c)) << text;
  }
}

TEST_F(AppTest, AConfigFileIsReadAndAnUnknownNameInItRefused) {
  int status = -1;
  const auto read = [&](const std::string& text) {
    std::ofstream(dir_ / "controller.toml") << text;
    std::vector<std::string> words{"rackmark-controller", "--config", dir_ / "controller.toml"};
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    return read_config(static_cast<int>(argv.size()), argv.data(), status);
  };
  const auto good = read(
      "# a comment\nlisten = \"[::1]:81\"\nhost-name = [\"a\", \"b\"]\n"
      "allow-remote = true\n");
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(good->address, "::1");
  EXPECT_THAT(good->host_names, testing::ElementsAre("a", "b"));
  EXPECT_TRUE(good->allow_remote);
  for (const char* bad : {"lisen = \"127.0.0.1:81\"\n", "[lisen]\nport = 81\n"}) {
    EXPECT_THAT(read(bad).error().message, HasSubstr("there is no option lisen")) << bad;
    EXPECT_EQ(status, 2);
  }
}

// The real program.
class Program {
 public:
  // `files`: the limit of open files; 0: as it is here.
  explicit Program(const fs::path& dir, const std::string& listen = "127.0.0.1:0", rlim_t files = 0)
      : dir_(dir) {
    std::vector<std::string> args{RACKMARK_BIN_DIR "/rackmark-controller",
                                  "--listen",
                                  listen,
                                  "--state",
                                  (dir / "state").string(),
                                  "--port-file",
                                  (dir / "port").string()};
    pid_ = ::fork();
    if (pid_ != 0) return;
    const rlimit limit{files, files};
    if (files != 0 && ::setrlimit(RLIMIT_NOFILE, &limit) != 0) ::_exit(97);
    const std::string log = (dir / "log").string();
    if (std::freopen(log.c_str(), "w", stderr) == nullptr) ::_exit(99);
    std::vector<char*> argv;
    for (auto& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(98);
  }
  ~Program() {
    if (pid_ > 0) ::kill(pid_, SIGKILL), ::waitpid(pid_, nullptr, 0);
  }
  int port() {
    for (int i = 0; i < 500; ++i) {
      int port = 0;
      if (std::ifstream(dir_ / "port") >> port) return port;
      std::this_thread::sleep_for(10ms);
    }
    return 0;
  }
  void signal(int number) { ::kill(pid_, number); }
  // Exit status, 128 + signal, or -1 when it still runs after that time.
  int wait(std::chrono::milliseconds longest) {
    const auto end = std::chrono::steady_clock::now() + longest;
    int status = 0;
    while (::waitpid(pid_, &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > end) return -1;
      std::this_thread::sleep_for(10ms);
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string log() {
    std::ifstream stream(dir_ / "log");
    return {std::istreambuf_iterator<char>(stream), {}};
  }

 private:
  fs::path dir_;
  pid_t pid_ = -1;
};

TEST_F(AppTest, SigtermEndsHeldAndStreamingRequestsAndExits0) {
  Program program(dir_);
  const int port = program.port();
  ASSERT_NE(port, 0) << program.log();
  RawConnection stream(port);
  stream.send("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
  stream.read_until("retry:");
  RawConnection half(port);
  half.send("POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n");
  program.signal(SIGTERM);
  EXPECT_EQ(program.wait(5s), 0) << program.log();
  EXPECT_TRUE(stream.closed_by_peer(1));
  EXPECT_FALSE(fs::exists(dir_ / "state/rackmark.db-wal") &&
               fs::file_size(dir_ / "state/rackmark.db-wal") > 0)
      << "the log is in the database after an orderly end";
}

TEST_F(AppTest, ConnectionsThatTheFileLimitHasNoRoomForAreTold) {
  Program program(dir_, "127.0.0.1:0", 300);
  const int port = program.port();
  ASSERT_NE(port, 0) << program.log();
  std::vector<std::unique_ptr<RawConnection>> held;
  for (int i = 0; i < 300 - 256; ++i) held.push_back(std::make_unique<RawConnection>(port));
  const std::string get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
  held.back()->send(get);
  EXPECT_EQ(status_of(held.back()->read_until("\r\n\r\n")), 200);
  EXPECT_EQ(status_of(RawConnection(port).read_until("\r\n\r\n")), 503);
}

TEST_F(AppTest, ASecondSignalExitsAtOnce) {
  Program program(dir_);
  const int port = program.port();
  ASSERT_NE(port, 0) << program.log();
  RawConnection half(port);  // keeps the orderly end waiting
  half.send("POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n");
  std::this_thread::sleep_for(50ms);
  program.signal(SIGTERM);
  std::this_thread::sleep_for(100ms);
  program.signal(SIGINT);
  EXPECT_EQ(program.wait(1s), 130) << program.log();
}

TEST_F(AppTest, WhatWasAnsweredSurvivesKill9) {
  std::int64_t id = 0;
  {
    Program program(dir_);
    net::BlockingClient client({"127.0.0.1", static_cast<std::uint16_t>(program.port())});
    const auto job = client.call(protocol::kSubmitJob, {}, {}, small_spec());
    ASSERT_TRUE(job) << job.error().message;
    id = job->id;
  }  // SIGKILL
  fs::remove(dir_ / "port");
  Program again(dir_);
  net::BlockingClient client({"127.0.0.1", static_cast<std::uint16_t>(again.port())});
  const auto job = client.call(protocol::kShowJob, id);
  ASSERT_TRUE(job) << job.error().message;
  EXPECT_EQ(job->spec_submitted, small_spec());
}

TEST_F(AppTest, BadUsageIs2AndOneLine) {
  Program program(dir_, "nowhere");
  EXPECT_EQ(program.wait(5s), 2) << program.log();
  EXPECT_THAT(program.log(), HasSubstr("--listen"));
}

TEST_F(AppTest, AFailedStartIs1AndOneLine) {
  TestController first;
  Program program(dir_, "127.0.0.1:" + std::to_string(first.port()));
  EXPECT_EQ(program.wait(5s), 1);
  const std::string log = program.log();
  EXPECT_THAT(log, HasSubstr("Address already in use"));
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
}

}  // namespace
}  // namespace rackmark::test
