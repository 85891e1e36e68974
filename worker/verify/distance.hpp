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

// Every group of the file. Allowed in double ("fp64"): 1e-8; else 5 times what float32 runs of the
// file's author were off, at least 1e-5.
std::vector<GroupDistance> distances(const Results& got, const Reference& wanted,
                                     const std::string& precision);

}  // namespace rackmark::worker
