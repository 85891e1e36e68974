#include "worker/input/picture_list.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>

#include "worker/failure.hpp"

namespace rackmark::worker {

namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxPictures = 20'000'000;

// Says no in the terms of who asked.
struct Lister {
  std::string option;
  [[noreturn]] void unavailable(const std::string& path, const std::string& why) const {
    throw Failure(Reason::kInputUnavailable, option + " '" + path + "': " + why);
  }
  std::vector<std::string> names_in(const fs::path& folder, bool want_folders) const;
};

std::vector<std::string> Lister::names_in(const fs::path& folder, bool want_folders) const {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator it(folder, error);
  if (error) unavailable(folder.string(), error.message());
  for (; it != fs::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.empty() || name[0] == '.') continue;
    std::error_code ignored;
    if (it->is_directory(ignored) == want_folders) names.push_back(name);
    if (names.size() > kMaxPictures) unavailable(folder.string(), "more than 20 million names");
  }
  if (error) unavailable(folder.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

bool is_jpeg_name(const std::string& name) {
  std::string extension = fs::path(name).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg";
}

}  // namespace

PictureList list_pictures(const std::string& root, const std::string& option) {
  const Lister lister{option};
  std::error_code error;
  if (!fs::exists(root, error)) {
    lister.unavailable(root, error ? error.message() : "there is no such folder");
  }
  if (!fs::is_directory(root, error)) lister.unavailable(root, "is not a folder");
  PictureList list;
  list.root = root;
  list.classes = lister.names_in(root, true);
  if (list.classes.empty()) {
    lister.unavailable(root, "holds no folder; one folder a class is expected");
  }
  for (std::size_t label = 0; label < list.classes.size(); ++label) {
    const std::string& folder = list.classes[label];
    for (const std::string& name : lister.names_in(fs::path(root) / folder, false)) {
      if (!is_jpeg_name(name)) continue;
      list.pictures.push_back({folder + "/" + name, static_cast<std::int32_t>(label)});
    }
    if (list.pictures.size() > kMaxPictures)
      lister.unavailable(root, "more than 20 million pictures");
  }
  if (list.pictures.empty()) {
    lister.unavailable(root, "none of its " + std::to_string(list.classes.size()) +
                                 " folders holds a .jpg or .jpeg file");
  }
  return list;
}

}  // namespace rackmark::worker
