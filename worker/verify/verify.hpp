// Compares a backend with reference results: `rackmark-worker verify`.
#pragma once

#include <string>
#include <vector>

namespace rackmark::worker {

struct VerifyOptions {
  std::vector<std::string> references;  // files; at least one
  std::string backend;                  // "": the best one of this host
  std::string precision = "fp32";
  std::string fusion;  // as in PlanOptions; "": the backend's best
  int threads = 0;     // 0: all of this process's CPUs
  // Deliberate faults, a self-test of verification: "negate-gradient=<parameter>" or
  // "negate-residual-gradient". Empty in every real use.
  std::string inject;
  bool json = false;  // one JSON document on stdout instead of the table
};

// Prints one table a file on stdout: every group with its distance from the reference, what is
// allowed, and the worst entry. Returns the exit status: 0 everything inside tolerance; 1 something
// is outside (NaN is outside); 2 a file, model, backend or option that cannot be used, with one
// line on stderr.
int run_verify(const VerifyOptions& options);

}  // namespace rackmark::worker
