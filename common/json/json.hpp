// nlohmann::json as Rackmark includes it: what does not depend on the file that uses it is compiled
// once, in json.cpp, instead of in every one.
#pragma once

#include <nlohmann/json.hpp>

extern template class nlohmann::basic_json<>;

namespace rackmark {
// For files in which the namespace rackmark::json is visible as well.
using Json = nlohmann::json;
}  // namespace rackmark
