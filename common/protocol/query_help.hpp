// What the members of the query structs mean, once: for the options of the command line and for
// openapi.json. A member without a row does not compile as an option.
#pragma once

#include <string_view>

namespace rackmark::protocol {

struct QueryHelp {
  std::string_view name, value, help;  // value: a word for what is to be given
};

inline constexpr QueryHelp kQueryHelp[] = {
    {"state", "STATE", "queued, running, succeeded, failed, cancelled, or active: not over yet"},
    {"model", "MODEL", "Name of a network, such as resnet50"},
    {"mode", "MODE", "training, inference or accuracy"},
    {"precision", "PRECISION", "fp32, tf32, bf16, fp16 or int8"},
    {"device_class", "CLASS", "Exactly this device class, as agents and results show it"},
    {"agent", "NAME", "Name of an agent that took part"},
    {"name", "TEXT", "A part of the name"},
    {"label", "KEY=VALUE", "A label that was given"},
    {"since", "TIME", "Made at or after this time, such as 2026-11-21T02:03:04Z (RFC 3339)"},
    {"until", "TIME", "Made before this time, such as 2026-11-21T02:03:04Z (RFC 3339)"},
    {"cursor", "CURSOR", "Go on after the page before: its next_cursor"},
    {"limit", "NUMBER", "Most items of a page"},
    {"kind", "KIND", "scale"},
    {"fingerprint", "SHA256", "Results of one series: equal in all that counts"},
    {"input_kind", "KIND", "synthetic, images, cifar10 or packed"},
    {"batch_size", "NUMBER", "Pictures of a worker and step"},
    {"job", "NUMBER", "Number of a job"},
    {"after", "NUMBER", "Lines after this number"},
    {"from", "NUMBER", "From this step on, none left out; without: the whole, thinned"},
    {"tail", "NUMBER", "Instead: the last lines"},
    {"validate", "BOOLEAN", "Check and resolve, store nothing"},
};

// Empty name: there is none.
constexpr QueryHelp query_help(std::string_view member) {
  for (const QueryHelp& row : kQueryHelp) {
    if (row.name == member) return row;
  }
  return {};
}

}  // namespace rackmark::protocol
