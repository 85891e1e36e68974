// A real process in place of rackmark-worker, for tests of the agent: started by the real mpirun,
// it speaks the event protocol over the run's socket and then does what the spec's "name" says.
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

namespace {

std::string environment(const char* name, const char* otherwise = "") {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

class Events {
 public:
  Events() : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, environment("RACKMARK_EVENTS").c_str(),
                 sizeof address.sun_path - 1);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      std::perror("events socket");
      std::exit(9);
    }
  }
  void raw(const std::string& line) const {
    const std::string bytes = line + "\n";
    for (std::size_t at = 0; at < bytes.size();) {
      const ssize_t n = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (n <= 0) return;
      at += static_cast<std::size_t>(n);
    }
  }
  void send(const std::string& type, const std::string& members) const {
    raw("{\"type\":\"" + type + "\",\"v\":1,\"rank\":" + rank_ + ",\"t_ns\":1" +
        (members.empty() ? "" : ",") + members + "}");
  }
  const std::string& rank() const { return rank_; }

 private:
  int fd_;
  std::string rank_ = environment("OMPI_COMM_WORLD_RANK", "0");
};

std::string behaviour(const char* file) {
  std::ifstream in(file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::string mark = "\"name\": \"";
  const auto at = text.find(mark);
  if (at == std::string::npos) return "success";
  const auto begin = at + mark.size();
  return text.substr(begin, text.find('"', begin) - begin);
}

void hello(const Events& events) {
  events.send("hello",
              "\"ranks\":" + environment("OMPI_COMM_WORLD_SIZE", "1") + ",\"host\":\"here\"");
  events.send("phase", "\"phase\":\"setup\"");
}

void measure(const Events& events) {
  events.send("phase", "\"phase\":\"warmup\"");
  events.send("steps", "\"phase\":\"warmup\",\"first_step\":0,\"ms\":[5.0],\"loss\":[7.0]");
  events.send("phase", "\"phase\":\"measuring\"");
  events.send("steps",
              "\"phase\":\"measuring\",\"first_step\":0,\"ms\":[4.0,4.5],\"loss\":[6.5,6.0]");
}

void finish(const Events& events) {
  events.send("phase", "\"phase\":\"collecting\"");
  events.send("summary", "\"images\":4,\"steps\":2,\"start_ns\":1000,\"end_ns\":9000");
}

void start_helper_in_own_session() {
  if (::fork() != 0) return;
  ::setsid();
  ::close_range(0, ~0U, 0);  // a well-behaved daemon: nobody waits for its end of a pipe
  ::execlp("sleep", "sleep", "300", nullptr);
  ::_exit(1);
}

int act(const std::string& what, const Events& events) {
  const bool first = events.rank() == "0";
  if (what == "no_hello") {
    std::fprintf(stderr, "cannot load the engine\n");
    return 7;
  }
  hello(events);
  std::printf("rank %s speaks\n", events.rank().c_str());
  std::fflush(stdout);
  if (what == "out_of_memory") {
    events.send("out_of_memory",
                "\"model\":\"resnet50\",\"precision\":\"fp32\",\"batch_size\":512,"
                "\"bytes_wanted\":9000,\"bytes_free\":100");
    return 1;
  }
  measure(events);
  if (what == "crash" && !first) {
    ::signal(SIGSEGV, SIG_DFL);  // a sanitizer would turn the signal into an exit status
    ::raise(SIGSEGV);
  }
  if (what == "exit3" && first) return 3;
  if (what == "hang" || what == "ignore_term") {
    if (what == "ignore_term") ::signal(SIGTERM, SIG_IGN);
    while (true) ::pause();
  }
  if (what == "nan") {
    events.send(
        "failure",
        "\"reason\":\"nan_loss\",\"detail\":\"loss is NaN at step 2\",\"phase\":\"measuring\"");
    return 1;
  }
  if (what == "garbage") {
    events.raw("this is not JSON");
    events.raw("{\"type\":\"steps\",\"rank\":99}");
    events.raw("[1,2,3]");
    std::printf("broken \xff\xfe bytes\n");
    std::fflush(stdout);
  }
  if (what == "overlong" && first) {
    events.raw(std::string((1 << 20) + 100, 'x'));
    ::usleep(200000);
  }
  if (what == "helper") start_helper_in_own_session();
  if (what == "slow") ::usleep(1500000);
  if (what != "no_summary" || first) finish(events);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--version") {
    std::puts("rackmark-worker 0.1.0, engine 0123456789ab, onednn 2.6.3");
    return 0;
  }
  if (argc != 4) return 2;
  const Events events;
  return act(behaviour(argv[3]), events);
}
