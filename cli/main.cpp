#include <sys/ioctl.h>
#include <unistd.h>

#include <csignal>
#include <iostream>

#include "cli/program.hpp"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // `rackmark jobs | head` ends with a failed write, not a signal
  rackmark::cli::Context context(std::cout, std::cerr, std::cin);
  winsize size{};
  context.progress_bar = isatty(STDERR_FILENO) == 1;
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
    context.width = size.ws_col;
  const int status = rackmark::cli::run({argv + 1, argv + argc}, context);
  std::cout.flush();
  // A full disk behind a redirection must not look like success.
  return status == 0 && !std::cout ? 1 : status;
}
