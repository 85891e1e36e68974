// One option per member of a query struct: --model, --device_class, --limit.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "common/json/described.hpp"

namespace rackmark::cli {

// `query` outlives `command`.
template <class Query>
void add_query_options(CLI::App& command, Query& query) {
  boost::mp11::mp_for_each<json::detail::members<Query>>([&](auto d) {
    command.add_option("--" + std::string(d.name), query.*d.pointer)->group("Filters");
  });
}

}  // namespace rackmark::cli
