// Files that hold one described struct as JSON, whole or absent after a crash (files.hpp).
#pragma once

#include <filesystem>
#include <optional>
#include <utility>

#include "agent/process/files.hpp"
#include "common/json/described.hpp"

namespace rackmark::agent {

// nullopt when the file is absent, unreadable or no T.
template <class T>
std::optional<T> read_described(const std::filesystem::path& path) {
  const auto text = read_file(path);
  if (!text) return std::nullopt;
  const auto parsed = json::parse(*text);
  if (!parsed) return std::nullopt;
  auto value = json::decode<T>(*parsed, json::Unknown::kIgnore);
  if (!value) return std::nullopt;
  return std::move(*value);
}

// Throws std::system_error.
template <class T>
void write_described(const std::filesystem::path& path, const T& value) {
  write_file_atomically(
      path, json::encode(value).dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace rackmark::agent
