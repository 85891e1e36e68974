#include "worker/verify/reference_file.hpp"

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "common/json/described.hpp"

namespace rackmark::worker {
namespace {

constexpr std::size_t kMaxFileBytes = 64u << 20;
constexpr std::int64_t kLogitsKept = 16;  // per image

std::string text_of(const std::string& path) {
  std::error_code unknown;
  const auto bytes = std::filesystem::file_size(path, unknown);  // a file, and of what size
  if (unknown) throw std::runtime_error("cannot be opened: " + unknown.message());
  if (bytes == 0) throw std::runtime_error("empty");
  if (bytes > kMaxFileBytes) throw std::runtime_error("larger than 64 MiB");
  std::string text(bytes, '\0');
  std::ifstream in(path, std::ios::binary);
  if (!in.read(text.data(), static_cast<std::streamsize>(bytes))) {
    throw std::runtime_error("cannot be read");
  }
  return text;
}

void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

void check_range(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  require(value >= least && value <= most, std::string(name) + " is " + std::to_string(value) +
                                               ", allowed: " + std::to_string(least) + " to " +
                                               std::to_string(most));
}

void check_entries(const Reference& r, const char* name, const Entries& entries) {
  for (const auto& [parameter, dims] : r.shapes) {
    require(entries.contains(parameter), std::string(name) + " lacks '" + parameter + "'");
  }
  require(entries.size() == r.shapes.size(),
          std::string(name) + " has entries that are in no shape");
}

void check_rows(const Reference& r, const char* name,
                const std::vector<std::vector<double>>& rows) {
  require(std::ssize(rows) == r.batch, std::string(name) + " has " + std::to_string(rows.size()) +
                                           " rows, not " + std::to_string(r.batch));
  for (const auto& row : rows) {
    require(!row.empty() && std::ssize(row) <= kLogitsKept && row.size() == rows[0].size(),
            std::string(name) + " has a row of " + std::to_string(row.size()) + " values");
  }
}

void check(const Reference& r) {
  check_range("batch", r.batch, 1, 65536);
  check_range("image_size", r.image_size, 1, 4096);
  check_range("steps", r.steps, 1, 10000);
  check_range("classes", r.classes, 2, 1 << 20);
  require(r.optimizer.kind == "sgd", "optimizer.kind is '" + r.optimizer.kind + "', allowed: sgd");
  require(!r.shapes.empty(), "shapes is empty");
  for (const auto* steps : {&r.loss, &r.float32_error.loss}) {
    require(std::ssize(*steps) == r.steps, "loss has " + std::to_string(steps->size()) +
                                               " values, not " + std::to_string(r.steps));
  }
  check_rows(r, "logits", r.logits);
  check_rows(r, "eval_logits", r.eval_logits);
  check_entries(r, "gradient_l2", r.gradient_l2);
  check_entries(r, "gradient_probe", r.gradient_probe);
  check_entries(r, "parameter_l2", r.parameter_l2);
  check_entries(r, "parameter_probe", r.parameter_probe);
}

// Members that the struct knows and the file lacks.
template <class T>
void require_all(const Json& from, const std::string& path) {
  for (const auto& member : rackmark::json::type_of<T>.members) {
    require(from.is_object() && from.contains(member.name),
            "member '" + path + member.name + "' is missing");
  }
}

Reference parse_reference(const std::string& text) {
  const auto parsed = rackmark::json::parse(text);
  require(parsed.has_value(), parsed.has_error() ? parsed.error().message : "");
  require_all<Reference>(*parsed, "");
  require_all<ReferenceOptimizer>(parsed->at("optimizer"), "optimizer.");
  require_all<ReferenceBatchNorm>(parsed->at("batch_norm"), "batch_norm.");
  require_all<Float32Error>(parsed->at("float32_error"), "float32_error.");
  auto decoded = rackmark::json::decode<Reference>(*parsed, rackmark::json::Unknown::kIgnore);
  require(decoded.has_value(), decoded.has_error() ? decoded.error().message : "");
  check(*decoded);
  return std::move(*decoded);
}

}  // namespace

Reference read_reference(const std::string& path) {
  try {
    return parse_reference(text_of(path));
  } catch (const std::exception& error) {
    throw std::runtime_error("reference file " + path + ": " + error.what());
  }
}

}  // namespace rackmark::worker
