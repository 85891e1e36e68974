// The whole controller in one object: store threads, server, routes, clock. main() and the tests
// both use it.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>

#include "controller/config.hpp"

namespace rackmark {

// Why it cannot start, in one sentence for people.
class StartError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ControllerApp {
 public:
  explicit ControllerApp(ControllerConfig config);
  ~ControllerApp();  // after run() has returned, or without it
  ControllerApp(const ControllerApp&) = delete;
  ControllerApp& operator=(const ControllerApp&) = delete;

  // Makes the state folder, opens, locks and migrates the database, listens, writes the port file.
  // Throws StartError or store::StoreError, and leaves nothing behind then.
  void start();
  std::uint16_t port() const;  // after start()

  // SIGINT and SIGTERM call stop(); a second one ends the process at once. Call before run().
  void stop_on_signals();
  // Serves until stop(); returns within 5 s of it. What was answered is durable.
  void run();
  void stop();  // from any thread

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rackmark
