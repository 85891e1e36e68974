#include <sys/resource.h>

#include <cstdio>
#include <exception>

#include "controller/app.hpp"

namespace {

// A held sync is a connection: ten thousand agents need more than the usual 1024.
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    int exit_status = 0;
    auto config = rackmark::read_config(argc, argv, exit_status);
    if (!config) {
      if (!config.error().message.empty()) {
        std::fprintf(stderr, "rackmark-controller: %s\n", config.error().message.c_str());
      }
      return exit_status;
    }
    rackmark::log::start("controller", config->log_level);
    raise_file_limit();
    rackmark::ControllerApp app(std::move(*config));
    app.start();
    app.stop_on_signals();
    app.run();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rackmark-controller: %s\n", error.what());
    return 1;
  }
}
