#include "controller/http/static_files.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <optional>

namespace rackmark::http {
namespace fs = std::filesystem;

namespace {

constexpr std::uintmax_t kMaxFile = 64u << 20;

std::string_view content_type(const fs::path& file) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kTypes{{
      {".html", "text/html; charset=utf-8"},
      {".js", "text/javascript; charset=utf-8"},
      {".css", "text/css; charset=utf-8"},
      {".json", "application/json"},
      {".map", "application/json"},
      {".svg", "image/svg+xml"},
      {".png", "image/png"},
      {".ico", "image/x-icon"},
      {".webp", "image/webp"},
      {".woff2", "font/woff2"},
      {".txt", "text/plain; charset=utf-8"},
      {".webmanifest", "application/manifest+json"},
  }};
  const std::string extension = file.extension().string();
  for (const auto& [suffix, type] : kTypes) {
    if (suffix == extension) return type;
  }
  return "application/octet-stream";
}

// "/assets/app.js" -> "assets/app.js"; nullopt for what may not be asked.
std::optional<fs::path> relative(std::string_view path) {
  fs::path out;
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const auto segment = path.substr(0, path.find('/'));
    path.remove_prefix(segment.size());
    if (segment.empty() && path.empty()) break;
    if (segment.empty() || segment.front() == '.') return std::nullopt;
    if (segment.find('\\') != std::string_view::npos) return std::nullopt;
    out /= segment;
  }
  return out;
}

// The regular file itself, links followed, if it lies below `root`.
std::optional<fs::path> inside(const fs::path& root, const fs::path& wanted) {
  std::error_code ec;
  const fs::path base = fs::canonical(root, ec);
  if (ec) return std::nullopt;
  const fs::path file = fs::canonical(base / wanted, ec);
  if (ec || !fs::is_regular_file(file, ec) || fs::file_size(file, ec) > kMaxFile) {
    return std::nullopt;
  }
  const auto [end, at] = std::mismatch(base.begin(), base.end(), file.begin(), file.end());
  return end == base.end() ? std::optional(file) : std::nullopt;
}

std::string etag_of(const fs::path& file) {
  std::error_code ec;
  const auto time = fs::last_write_time(file, ec).time_since_epoch().count();
  return "\"" + std::to_string(time) + "-" + std::to_string(fs::file_size(file, ec)) + "\"";
}

// "main-3KQ5TZ2A.js": a name that holds the hash of the content never means another content.
bool is_hashed(const fs::path& file) {
  const std::string stem = file.stem().string();
  const auto dash = stem.rfind('-');
  if (dash == std::string::npos || stem.size() - dash != 9) return false;
  return std::all_of(stem.begin() + static_cast<std::ptrdiff_t>(dash) + 1, stem.end(),
                     [](char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); });
}

// Whether "gzip" is in the list without a weight; the plain file is always a right answer.
bool accepts_gzip(std::string_view list) {
  while (!list.empty()) {
    const auto end = std::min(list.find(','), list.size());
    std::string_view item = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    if (item == "gzip") return true;
  }
  return false;
}

Headers page_headers(std::string etag, bool for_ever) {
  return {{"ETag", std::move(etag)},
          {"Cache-Control", for_ever ? "max-age=31536000, immutable" : "no-cache"},
          {"Content-Security-Policy",
           "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
           "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"},
          {"X-Frame-Options", "DENY"},
          {"Referrer-Policy", "no-referrer"}};
}

}  // namespace

Response StaticFiles::serve(const Request& request) const {
  const Error missing{ErrorCode::kNotFound, "nothing is at " + request.path, {}};
  const auto wanted = relative(request.path);
  if (!wanted) return problem(missing, request.path);
  auto file = wanted->empty() ? std::nullopt : inside(root_, *wanted);
  // Pages have addresses of their own (/jobs/42) and one file.
  if (!file && wanted->filename().string().find('.') == std::string::npos) {
    file = inside(root_, "index.html");
  }
  if (!file) return problem(missing, request.path);

  // The build lays the packed form beside what is worth packing.
  const auto packed = inside(root_, wanted->string() + ".gz");
  const bool send_packed = packed && accepts_gzip(request.header("Accept-Encoding"));
  const fs::path& sent = send_packed ? *packed : *file;

  Response response;
  std::string etag = etag_of(sent);
  if (request.header("If-None-Match") == etag) {
    response.status = 304;
  } else {
    std::ifstream stream(sent, std::ios::binary);
    if (!stream) return problem(missing, request.path);
    response.content_type = content_type(*file);
    response.body.assign(std::istreambuf_iterator<char>(stream), {});
  }
  response.headers = page_headers(std::move(etag), is_hashed(*file));
  if (packed) response.headers.emplace_back("Vary", "Accept-Encoding");
  if (send_packed && response.status == 200) {
    response.headers.emplace_back("Content-Encoding", "gzip");
  }
  return response;
}

}  // namespace rackmark::http
