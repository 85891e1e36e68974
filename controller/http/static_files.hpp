// The web view: regular files below one folder, index.html for every page address without a dot.
#pragma once

#include <filesystem>

#include "controller/http/message.hpp"

namespace rackmark::http {

class StaticFiles {
 public:
  // A folder that is missing, or becomes so, is answered by 404.
  explicit StaticFiles(std::filesystem::path root) : root_(std::move(root)) {}

  // For GET and HEAD; blocks on the disk. Every file carries an ETag and must be revalidated, so a
  // new build shows at the next load. Never leaves the folder: no hidden names, no "..", no link
  // that leads outside.
  Response serve(const Request& request) const;

 private:
  std::filesystem::path root_;
};

}  // namespace rackmark::http
