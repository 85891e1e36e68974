// The world of the store is broken: disk, file, schema. Its text is one sentence for the log.
#pragma once

#include <stdexcept>

namespace rackmark::store {

class StoreError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace rackmark::store
