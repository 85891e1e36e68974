// One option per member of a query struct: --model, --device_class, --limit.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "common/json/described.hpp"
#include "common/protocol/query_help.hpp"

namespace rackmark::cli {

// `query` outlives `command`.
template <class Query>
void add_query_options(CLI::App& command, Query& query) {
  boost::mp11::mp_for_each<json::detail::members<Query>>([&](auto d) {
    constexpr auto kHelp = protocol::query_help(decltype(d)::name);
    static_assert(!kHelp.help.empty(), "a row of protocol::kQueryHelp is missing");
    auto* option =
        command.add_option("--" + std::string(d.name), query.*d.pointer, std::string(kHelp.help));
    option->group("Filters")->type_name(std::string(kHelp.value));
    if (kHelp.name == "limit") option->capture_default_str();
  });
}

}  // namespace rackmark::cli
