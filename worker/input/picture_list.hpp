// First stage: which pictures there are. One folder a class; the label of a class is its place
// among the folder names in byte order; file names are in byte order, too, so that every host sees
// the same list.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace rackmark::worker {

class PackedShards;

struct ListedPicture {
  std::string path;  // inside the root: "n01440764/a.JPEG"; packed: "00003.shard:17"
  std::int32_t label = 0;
};

struct PictureList {
  std::string root;
  std::vector<std::string> classes;
  std::vector<ListedPicture> pictures;
  std::shared_ptr<const PackedShards> shards;  // null: every picture is a JPEG file of its own
};

// *.jpg and *.jpeg in any case; hidden names and everything else are passed over. Throws
// Failure(input_unavailable) naming the path, as `option` of who asked, when it is no readable
// folder, holds no class folder, or none of them holds a picture.
PictureList list_pictures(const std::string& root, const std::string& option = "input.path");

}  // namespace rackmark::worker
