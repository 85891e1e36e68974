// Tokens: 32 random bytes as hex, stored only as SHA-256, compared in constant time.
#pragma once

#include <string>
#include <string_view>

namespace rackmark::service {

std::string random_hex(std::size_t bytes);  // from the kernel; throws std::system_error
std::string random_uuid();                  // version 4
// Takes the same time wherever the first difference is.
bool equal_secrets(std::string_view a, std::string_view b);

}  // namespace rackmark::service
