// How far a run is from its reference, group by group. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "worker/verify/reference_file.hpp"

namespace rackmark::worker {

struct GroupDistance {
  std::string group;
  double distance = 0;  // NaN when anything in the group is NaN, or is missing
  double allowed = 0;
  std::string worst;  // the entry farthest away; "" for a group of one

  bool passed() const { return distance <= allowed; }  // never with NaN
};

// Relative L2 distance of all values together: |got - wanted| / |wanted|.
double relative_l2(const std::vector<std::vector<double>>& got,
                   const std::vector<std::vector<double>>& wanted);

// The largest |got - wanted| / scale of any entry, and which one it is.
struct WorstEntry {
  double distance = 0;
  std::string name;
};
WorstEntry worst_entry(const Entries& got, const Entries& wanted, const Entries& scale);

// Runs of the plain backend in the same precision widen what is allowed: each group may be at most
// 5 times (narrow precisions: 3 times) as far off as the farthest of `runs` is. Groups in `groups`
// are those of distances(); a deep network without batch norm has millions of ReLUs, and one that
// rounding flips moves every gradient before it, which three runs of the file's author may or may
// not have met.
void widen(std::vector<GroupDistance>& groups, const std::vector<Results>& runs,
           const Reference& wanted, const std::string& precision = "fp32");

// Every group of the file. Allowed in double ("fp64"): 1e-8; before widen() 1/128 in bf16, 1/1024
// in fp16 and tf32; else 5 times what float32 runs of the file's author were off, at least 1e-5.
std::vector<GroupDistance> distances(const Results& got, const Reference& wanted,
                                     const std::string& precision);

}  // namespace rackmark::worker
