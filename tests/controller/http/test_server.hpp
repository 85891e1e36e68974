// A server with a few routes on a free port, its network thread beside the test.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <thread>

#include "controller/http/server.hpp"
#include "controller/http/typed_route.hpp"

namespace rackmark::http::test {

struct Note {
  std::string text;
  std::int64_t count = 0;
};
BOOST_DESCRIBE_STRUCT(Note, (), (text, count))
struct NoteQuery {
  bool loud = false;
  std::optional<std::int64_t> times;
  std::optional<double> factor;
  std::optional<std::string> name;
};
BOOST_DESCRIBE_STRUCT(NoteQuery, (), (loud, times, factor, name))

inline constexpr protocol::Endpoint<Note, Note, NoteQuery> kMake{
    protocol::Verb::kPost, "/api/v1/notes", "Make a note", protocol::Role::kSubmitter, 201};
inline constexpr protocol::Endpoint<protocol::Nothing, Note> kShow{
    protocol::Verb::kGet, "/api/v1/notes/{id}", "Show a note"};
inline constexpr protocol::Endpoint<protocol::Nothing, Note> kBreak{
    protocol::Verb::kPost, "/api/v1/notes/{id}:break", "Throws"};
inline constexpr protocol::Endpoint<Note, Note> kFromAgent{
    protocol::Verb::kPost, "/api/v1/notes/{id}/agent", "Lenient", protocol::Role::kAgent};

inline void add_note_routes(Router& router, const boost::asio::any_io_executor& where) {
  add(router, kMake, where, [](const Call<Note, NoteQuery>& call) -> Result<Answer<Note>> {
    Note note = call.body;
    if (note.text == "refuse me") return invalid("text", note.text, "another", "text is refused");
    if (call.query.loud) note.text += "!";
    note.count = call.query.times.value_or(note.count);
    return Answer<Note>{note, 0, {{"Location", "/api/v1/notes/1"}}};
  });
  add(router, kShow, where, [](const Call<protocol::Nothing, protocol::Nothing>& call) {
    return Result<Note>(Note{"note", call.id});
  });
  add(router, kBreak, where, [](const Call<protocol::Nothing, protocol::Nothing>&) -> Result<Note> {
    throw std::runtime_error("secret of the disk");
  });
  add(router, kFromAgent, where,
      [](const Call<Note, protocol::Nothing>& call) { return Result<Note>(call.body); },
      {.unknown = json::Unknown::kIgnore, .max_body = 4u << 20});
}

class TestServer {
 public:
  explicit TestServer(ServerOptions options = {}) {
    add_note_routes(router, context.get_executor());
    server = std::make_unique<Server>(context.get_executor(), std::move(options), router);
    server->start();
    thread = std::thread([this] { context.run(); });
  }
  ~TestServer() {
    if (!stopped) stop();
  }
  void stop(std::chrono::milliseconds grace = std::chrono::milliseconds(500)) {
    stopped = true;
    boost::asio::co_spawn(context, server->stop(grace),
                          [this](const std::exception_ptr&) { context.stop(); });
    thread.join();
  }
  int port() const { return server->port(); }

  Router router;
  boost::asio::io_context context{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> alive =
      boost::asio::make_work_guard(context);
  std::unique_ptr<Server> server;
  std::thread thread;
  bool stopped = false;
};

// "POST /path HTTP/1.1" with Host, Content-Length and Connection: close.
inline std::string request(std::string_view method, std::string_view path, std::string_view body,
                           std::string_view extra = "Content-Type: application/json\r\n") {
  std::string text(method);
  text.append(" ").append(path).append(" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
  text.append(extra);
  if (!body.empty()) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return text.append("\r\n").append(body);
}

}  // namespace rackmark::http::test
