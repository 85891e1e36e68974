// Small files that must be whole or absent after a crash.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace rackmark::agent {

// Whole text of a file of at most `limit` bytes; nullopt when it is absent, unreadable or longer.
std::optional<std::string> read_file(const std::filesystem::path& path,
                                     std::size_t limit = std::size_t{4} << 20);

// Written beside, fsynced, renamed over, and the folder fsynced: readers see the old text or the
// new one, also after a power cut. Throws std::system_error (ENOSPC when the disk is full).
void write_file_atomically(const std::filesystem::path& path, std::string_view text,
                           unsigned mode = 0600);

void write_all(int fd, std::string_view bytes);       // throws std::system_error
void sync_folder(const std::filesystem::path& path);  // throws std::system_error

}  // namespace rackmark::agent
