#include "controller/http/router.hpp"

#include <gmock/gmock.h>

#include "tests/controller/http/test_server.hpp"

namespace rackmark::http {
namespace {

namespace asio = boost::asio;
using testing::HasSubstr;

struct Row {
  std::string what, method, path, body, type;
  int status = 0;
  std::string expected;  // part of the body
};
void PrintTo(const Row& row, std::ostream* out) { *out << row.what; }

class RouterTable : public testing::TestWithParam<Row> {
 protected:
  Response dispatch(Request request) {
    asio::io_context context;
    Router router;
    test::add_note_routes(router, context.get_executor());
    Response response;
    asio::co_spawn(context, router.dispatch(std::move(request)),
                   [&](const std::exception_ptr&, Response r) { response = std::move(r); });
    context.run();
    return response;
  }
};

Request to_request(const Row& row) {
  Request request;
  request.method = row.method;
  const auto question = row.path.find('?');
  request.path = row.path.substr(0, question);
  if (question != std::string::npos) {
    const std::string pair = row.path.substr(question + 1);
    const auto equals = pair.find('=');
    request.query.emplace_back(pair.substr(0, equals), pair.substr(equals + 1));
  }
  request.body = row.body;
  if (!row.type.empty()) request.headers.emplace_back("content-type", row.type);
  return request;
}

TEST_P(RouterTable, Answers) {
  const Row& row = GetParam();
  const Response response = dispatch(to_request(row));
  EXPECT_EQ(response.status, row.status) << response.body;
  EXPECT_THAT(response.body, HasSubstr(row.expected));
  if (row.status >= 400) {
    EXPECT_EQ(response.content_type, "application/problem+json");
    const auto problem = nlohmann::json::parse(response.body);
    EXPECT_EQ(problem["status"], row.status);
    EXPECT_EQ(problem["instance"], row.path.substr(0, row.path.find('?')));
  }
}

const std::string kJson = "application/json";
const std::string kNotes = "/api/v1/notes";
INSTANTIATE_TEST_SUITE_P(
    Table, RouterTable,
    testing::Values(
        Row{"made", "POST", kNotes, R"({"text":"a"})", kJson, 201, R"("text":"a")"},
        Row{"charset", "POST", kNotes, R"({"text":"a"})", "Application/JSON; charset=utf-8", 201,
            "a"},
        Row{"query bool", "POST", kNotes + "?loud=true", R"({"text":"a"})", kJson, 201, "a!"},
        Row{"query int", "POST", kNotes + "?times=7", R"({"text":"a"})", kJson, 201,
            R"("count":7)"},
        Row{"shown", "GET", kNotes + "/12", "", "", 200, R"("count":12)"},
        Row{"head", "HEAD", kNotes + "/12", "", "", 200, ""},
        Row{"agents' unknown members are ignored", "POST", kNotes + "/1/agent",
            R"({"text":"a","newer":1})", kJson, 200, R"("text":"a")"},
        Row{"broken JSON", "POST", kNotes, R"({"text":)", kJson, 400, "not JSON at byte"},
        Row{"empty body", "POST", kNotes, "", kJson, 400, "not JSON"},
        Row{"bad id", "GET", kNotes + "/x", "", "", 400, "id 'x'"},
        Row{"id 0", "GET", kNotes + "/0", "", "", 400, "id '0'"},
        Row{"negative id", "GET", kNotes + "/-1", "", "", 400, "id '-1'"},
        Row{"leading zero", "GET", kNotes + "/01", "", "", 400, "id '01'"},
        Row{"huge id", "GET", kNotes + "/99999999999999999999", "", "", 400, "id '9999"},
        Row{"unknown query", "POST", kNotes + "?x=1", R"({})", kJson, 400, "query parameter 'x'"},
        Row{"wrong query type", "POST", kNotes + "?times=many", R"({})", kJson, 400,
            "a whole number"},
        Row{"wrong query bool", "POST", kNotes + "?loud=maybe", R"({})", kJson, 400,
            "true or false"},
        Row{"wrong query number", "POST", kNotes + "?factor=nan", R"({})", kJson, 400, "a number"},
        Row{"unknown path", "GET", "/api/v1/nothing", "", "", 404, "/api/v1/nothing"},
        Row{"below a path", "GET", kNotes + "/1/x", "", "", 404, "nothing is at"},
        Row{"unknown verb", "POST", kNotes + "/1:explode", "", "", 404, "nothing is at"},
        Row{"no id", "GET", kNotes + "/", "", "", 404, "nothing is at"},
        Row{"wrong method", "DELETE", kNotes + "/1", "", "", 405, "allowed: GET, HEAD"},
        Row{"verb by GET", "GET", kNotes + "/1:break", "", "", 405, "allowed: POST"},
        Row{"no type", "POST", kNotes, "{}", "", 415, "application/json"},
        Row{"form type", "POST", kNotes, "{}", "text/plain", 415, "'text/plain'"},
        Row{"body of a verb", "POST", kNotes + "/1:break", "x", "text/plain", 415, "text/plain"},
        Row{"unknown field", "POST", kNotes, R"({"txt":"a"})", kJson, 422, R"("field":"txt")"},
        Row{"wrong type", "POST", kNotes, R"({"text":5})", kJson, 422, "allowed: a string"},
        Row{"not an object", "POST", kNotes, R"([])", kJson, 422, "an object"},
        Row{"refused by the handler", "POST", kNotes, R"({"text":"refuse me"})", kJson, 422,
            R"("allowed":"another")"}));

TEST_F(RouterTable, TooLargeABodyIsRefusedEvenWithoutASession) {
  const Response response =
      dispatch(to_request({"", "POST", kNotes, std::string(kMaxBody + 1, ' '), kJson, 0, ""}));
  EXPECT_EQ(response.status, 413);
}

TEST_F(RouterTable, AnExceptionIs500WithoutItsText) {
  const Response response = dispatch(to_request({"", "POST", kNotes + "/1:break", "", "", 0, ""}));
  EXPECT_EQ(response.status, 500);
  EXPECT_THAT(response.body, testing::Not(HasSubstr("secret")));
}

TEST_F(RouterTable, AParameterGivenTwiceIsRefused) {
  Request request = to_request({"", "POST", kNotes + "?times=1", "{}", kJson, 0, ""});
  request.query.push_back(request.query.front());
  const Response response = dispatch(std::move(request));
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(response.body, HasSubstr("twice"));
}

TEST_F(RouterTable, AllowNamesEveryMethodOfAPath) {
  const Response response = dispatch(to_request({"", "PATCH", kNotes + "/3", "", "", 0, ""}));
  ASSERT_EQ(response.headers.size(), 1u);
  EXPECT_EQ(response.headers[0].first, "Allow");
  EXPECT_EQ(response.headers[0].second, "GET, HEAD");
}

}  // namespace
}  // namespace rackmark::http
