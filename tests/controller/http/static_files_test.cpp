#include "controller/http/static_files.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

namespace rackmark::http {
namespace {
namespace fs = std::filesystem;

class StaticFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "rackmark-web-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    fs::create_directories(dir_ / "web/assets");
    write("web/index.html", "<!doctype html>");
    write("web/assets/app.js", "export {}");
    write("web/.hidden", "secret");
    write("secret.txt", "secret");
    fs::create_symlink(dir_ / "secret.txt", dir_ / "web/link.txt");
  }
  void TearDown() override { fs::remove_all(dir_); }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name) << text;
  }
  Response get(std::string path, Headers headers = {}) {
    Request request;
    request.method = "GET";
    request.path = std::move(path);
    request.headers = std::move(headers);
    return StaticFiles(dir_ / "web").serve(request);
  }
  static std::string header(const Response& response, std::string_view name) {
    for (const auto& [key, value] : response.headers) {
      if (key == name) return value;
    }
    return "";
  }
  fs::path dir_;
};

TEST_F(StaticFilesTest, ServesFilesWithTheirType) {
  const Response script = get("/assets/app.js");
  EXPECT_EQ(script.status, 200);
  EXPECT_EQ(script.body, "export {}");
  EXPECT_EQ(script.content_type, "text/javascript; charset=utf-8");
  EXPECT_EQ(header(script, "Cache-Control"), "no-cache");
  EXPECT_NE(header(script, "Content-Security-Policy").find("default-src 'self'"),
            std::string::npos);
}

TEST_F(StaticFilesTest, EveryPageAddressIsTheOneFile) {
  for (const char* path : {"/", "/jobs", "/jobs/42", "/compare/", "/assets"}) {
    const Response page = get(path);
    EXPECT_EQ(page.status, 200) << path;
    EXPECT_EQ(page.body, "<!doctype html>") << path;
    EXPECT_EQ(page.content_type, "text/html; charset=utf-8");
  }
}

TEST_F(StaticFilesTest, MissingFilesAreNotThePage) {
  EXPECT_EQ(get("/assets/old.js").status, 404);
  EXPECT_EQ(get("/favicon.ico").status, 404);
}

TEST_F(StaticFilesTest, NothingOutsideTheFolder) {
  for (const char* path :
       {"/../secret.txt", "/assets/../../secret.txt", "/.hidden", "/link.txt", "/./index.html",
        "//etc/passwd", "/..", "/assets\\..\\x.txt", "/assets//app.js"}) {
    const Response response = get(path);
    EXPECT_EQ(response.status, 404) << path;
    EXPECT_EQ(response.body.find("\"secret\""), std::string::npos);
  }
}

TEST_F(StaticFilesTest, UnchangedFilesAreNotSentAgain) {
  const std::string etag = header(get("/assets/app.js"), "ETag");
  ASSERT_FALSE(etag.empty());
  const Response again = get("/assets/app.js", {{"if-none-match", etag}});
  EXPECT_EQ(again.status, 304);
  EXPECT_TRUE(again.body.empty());
  write("web/assets/app.js", "export { newer }");
  EXPECT_EQ(get("/assets/app.js", {{"if-none-match", etag}}).status, 200);
}

TEST_F(StaticFilesTest, PackedFormsForWhoTakesThem) {
  write("web/assets/main-3KQ5TZ2A.js", "export { long }");
  write("web/assets/main-3KQ5TZ2A.js.gz", "packed");
  const auto asked = [&](std::string list) {
    return get("/assets/main-3KQ5TZ2A.js", {{"Accept-Encoding", std::move(list)}});
  };
  const Response packed = asked("br, gzip"), plain = asked("br, gzip;q=0");
  EXPECT_EQ(packed.body, "packed");
  EXPECT_EQ(header(packed, "Content-Encoding"), "gzip");
  EXPECT_EQ(packed.content_type, "text/javascript; charset=utf-8");
  EXPECT_EQ(plain.body, "export { long }");
  EXPECT_EQ(header(plain, "Content-Encoding"), "");
  EXPECT_NE(header(packed, "ETag"), header(plain, "ETag"));
  for (const Response* response : {&packed, &plain}) {
    EXPECT_EQ(header(*response, "Vary"), "Accept-Encoding");
    EXPECT_EQ(header(*response, "Cache-Control"), "max-age=31536000, immutable");
  }
  EXPECT_EQ(get("/assets/app.js", {{"Accept-Encoding", "gzip"}}).body, "export {}");
}

TEST_F(StaticFilesTest, AMissingFolderIs404) {
  fs::remove_all(dir_ / "web");
  EXPECT_EQ(get("/").status, 404);
}

}  // namespace
}  // namespace rackmark::http
