// Limits, malformed requests and slow clients, over real sockets.
#include <gmock/gmock.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include "tests/controller/http/test_server.hpp"
#include "tests/support/raw_connection.hpp"

namespace rackmark::http {
namespace {

using rackmark::test::RawConnection;
using rackmark::test::status_of;
using rackmark::test::talk;
using std::chrono::milliseconds;
using test::request;
using test::TestServer;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StartsWith;

TEST(Server, AnswersJson) {
  TestServer server;
  const auto reply = talk(server.port(), request("POST", "/api/v1/notes", R"({"text":"a"})"));
  EXPECT_EQ(status_of(reply), 201) << reply;
  EXPECT_THAT(reply, HasSubstr("Location: /api/v1/notes/1\r\n"));
  EXPECT_THAT(reply, HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(reply, HasSubstr("X-Content-Type-Options: nosniff\r\n"));
  EXPECT_THAT(reply, HasSubstr("Cache-Control: no-store\r\n"));
  EXPECT_THAT(reply, HasSubstr(R"({"count":0,"text":"a"})"));
}

TEST(Server, KeepsConnectionsAndReadsPipelinedRequests) {
  TestServer server;
  RawConnection connection(server.port());
  const std::string get = "GET /api/v1/notes/5 HTTP/1.1\r\nHost: localhost\r\n\r\n";
  connection.send(get + get);
  connection.finish_sending();
  const std::string both = connection.read_all();
  EXPECT_NE(both.find("HTTP/1.1 200"), both.rfind("HTTP/1.1 200"));
}

TEST(Server, HeadHasTheLengthAndNoBody) {
  TestServer server;
  const auto reply = talk(server.port(), request("HEAD", "/api/v1/notes/5", "", ""));
  EXPECT_EQ(status_of(reply), 200);
  EXPECT_THAT(reply, HasSubstr("Content-Length: 25\r\n"));
  EXPECT_THAT(reply, ContainsRegex("Date: [A-Z][a-z]+, [0-9]+ [A-Z][a-z]+ 20[0-9]+ [0-9:]+ GMT"));
  EXPECT_TRUE(reply.ends_with("\r\n\r\n")) << reply;
}

TEST(Server, PercentAndQueryAreDecoded) {
  TestServer server;
  const auto reply =
      talk(server.port(), request("POST", "/api/v1/%6eotes?loud=tr%75e", R"({"text":"a"})"));
  EXPECT_THAT(reply, HasSubstr("a!"));
}

TEST(Server, MalformedRequestsAre400AndClosed) {
  TestServer server;
  for (const char* text : {
           "nonsense\r\n\r\n",
           "GET\r\n\r\n",
           "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
           "GET /api/v1/notes/1 HTTP/1.1\r\nHost: localhost\r\nbroken header\r\n\r\n",
           "GET /api/v1/notes/1 HTTP/1.1\r\n\r\n",
           "GET /api/v1/notes/1 HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
           "GET http://localhost/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
           "GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
           "GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
           "POST /api/v1/notes HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
           "POST /api/v1/notes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
           "Transfer-Encoding: chunked\r\n\r\n{}",
           "POST /api/v1/notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
           "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
       }) {
    const auto reply = talk(server.port(), text);
    EXPECT_EQ(status_of(reply), 400) << text << reply;
    EXPECT_THAT(reply, HasSubstr("application/problem+json"));
    EXPECT_THAT(reply, HasSubstr("Connection: close"));
  }
}

TEST(Server, ForeignHostAndOriginAre403) {
  TestServer server;
  EXPECT_EQ(
      status_of(talk(server.port(), "GET /api/v1/notes/1 HTTP/1.1\r\nHost: evil.example\r\n\r\n")),
      403);
  EXPECT_EQ(status_of(talk(server.port(), request("POST", "/api/v1/notes", "{}",
                                                  "Content-Type: application/json\r\n"
                                                  "Origin: http://evil.example\r\n"))),
            403);
}

TEST(Server, LargeHeadersAre431) {
  TestServer server;
  const auto reply = talk(server.port(), request("GET", "/api/v1/notes/1", "",
                                                 "X-Filler: " + std::string(20000, 'x') + "\r\n"));
  EXPECT_EQ(status_of(reply), 431);
}

TEST(Server, LargeBodiesAre413BeforeTheyAreRead) {
  TestServer server;
  const auto reply = talk(server.port(),
                          "POST /api/v1/notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                          "application/json\r\nContent-Length: 1048577\r\n\r\n");
  EXPECT_EQ(status_of(reply), 413) << reply;
  EXPECT_THAT(reply, HasSubstr("1048576 bytes"));
  // sent in full, the answer still arrives
  EXPECT_EQ(
      status_of(talk(server.port(), request("POST", "/api/v1/notes", std::string(3u << 20, ' ')))),
      413);
}

TEST(Server, LargeChunkedBodiesAre413) {
  TestServer server;
  RawConnection connection(server.port());
  connection.send(
      "POST /api/v1/notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
      "application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
  const std::string chunk = "10000\r\n" + std::string(0x10000, ' ') + "\r\n";
  for (int i = 0; i < 20; ++i) connection.send(chunk);
  EXPECT_EQ(status_of(connection.read_until("\r\n\r\n")), 413);
}

TEST(Server, ARouteMayTakeMore) {
  TestServer server;
  const std::string body = R"({"text":")" + std::string(3u << 20, 'x') + R"("})";
  EXPECT_EQ(status_of(talk(server.port(), request("POST", "/api/v1/notes/1/agent", body))), 200);
}

TEST(Server, ExpectContinueIsAnswered) {
  TestServer server;
  RawConnection connection(server.port());
  connection.send(
      "POST /api/v1/notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
      "application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_THAT(connection.read_until("\r\n\r\n"), StartsWith("HTTP/1.1 100"));
  connection.send("{}");
  EXPECT_EQ(status_of(connection.read_until("\r\n\r\n")), 201);
}

TEST(Server, SlowHeadersAndBodiesAreCutOff) {
  ServerOptions options;
  options.header_timeout = milliseconds(150);
  options.body_timeout = milliseconds(150);
  TestServer server(options);
  EXPECT_EQ(talk(server.port(), "GET /api", 3), "");
  RawConnection drip(server.port());  // a byte now and then does not help
  const std::string text = request("POST", "/api/v1/notes", "{}");
  std::size_t sent = 0;
  while (sent < text.size() && drip.send(text.substr(sent, 1))) {
    ++sent;
    if (drip.closed_by_peer(0.02)) break;
  }
  EXPECT_LT(sent, text.size());
  EXPECT_EQ(talk(server.port(),
                 "POST /api/v1/notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                 "application/json\r\nContent-Length: 10\r\n\r\n{",
                 3),
            "");
}

TEST(Server, ASlowReaderThatGoesOnReadingIsNotCutOff) {
  constexpr std::size_t kPieces = 24, kPiece = 1u << 20;
  ServerOptions options;
  options.write_timeout = milliseconds(4'000);
  TestServer server(options);
  Route large;
  large.path = "/api/v1/large";
  large.handler = [](Request) -> boost::asio::awaitable<Response> {
    Response response;
    response.body.assign(kPieces * kPiece, 'x');
    co_return response;
  };
  server.router.add(std::move(large));
  boost::asio::io_context context;
  boost::asio::ip::tcp::socket socket(context, boost::asio::ip::tcp::v4());
  socket.set_option(boost::asio::socket_base::receive_buffer_size(65536));
  const auto port = static_cast<std::uint16_t>(server.port());
  socket.connect({boost::asio::ip::address_v4::loopback(), port});
  boost::asio::write(socket, boost::asio::buffer(request("GET", "/api/v1/large", "")));
  std::string piece(kPiece, ' ');
  for (std::size_t i = 0; i < kPieces; ++i) {  // 6 s
    boost::system::error_code ec;
    boost::asio::read(socket, boost::asio::buffer(piece), ec);
    ASSERT_FALSE(ec) << "after " << i << " MiB: " << ec.message();
    std::this_thread::sleep_for(milliseconds(250));
  }
}

TEST(Server, IdleConnectionsAreClosed) {
  ServerOptions options;
  options.keep_alive_timeout = milliseconds(100);
  TestServer server(options);
  RawConnection connection(server.port());
  EXPECT_TRUE(connection.closed_by_peer(2));
}

TEST(Server, ConnectionsBeyondTheLimitAre503) {
  ServerOptions options;
  options.max_connections = 2;
  TestServer server(options);
  RawConnection one(server.port()), two(server.port());
  const std::string get = "GET /api/v1/notes/5 HTTP/1.1\r\nHost: localhost\r\n\r\n";
  one.send(get), two.send(get);
  EXPECT_EQ(status_of(one.read_until("}")), 200);
  EXPECT_EQ(status_of(two.read_until("}")), 200);
  RawConnection three(server.port());
  EXPECT_EQ(status_of(three.read_until("\r\n\r\n")), 503);
  one.send(get);
  EXPECT_EQ(status_of(one.read_until("}")), 200) << "those inside are served on";
}

TEST(Server, StopClosesIdleConnectionsAtOnce) {
  TestServer server;
  RawConnection idle(server.port());
  idle.send("GET /api/v1/notes/5 HTTP/1.1\r\nHost: localhost\r\n\r\n");
  idle.read_until("}");
  const auto began = std::chrono::steady_clock::now();
  server.stop(std::chrono::seconds(8));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(3));
  EXPECT_TRUE(idle.closed_by_peer(1));
}

TEST(Server, APortInUseIsSaid) {
  TestServer first;
  boost::asio::io_context context;
  Router router;
  ServerOptions options;
  options.port = static_cast<std::uint16_t>(first.port());
  Server second(context.get_executor(), options, router);
  EXPECT_THROW(second.start(), boost::system::system_error);
}

TEST(Server, RandomBytesNeverHurt) {
  TestServer server;
  std::uint32_t state = 12345;
  for (int round = 0; round < 60; ++round) {
    std::string bytes = round % 2 == 0 ? "POST /api/v1/notes HTTP/1.1\r\nHost: localhost\r\n" : "";
    for (int i = 0; i < 300; ++i) {
      state = state * 1664525u + 1013904223u;
      bytes += static_cast<char>(state >> 24);
    }
    RawConnection connection(server.port());
    connection.send(bytes);
    connection.finish_sending();
    connection.read_all();
  }
  EXPECT_EQ(status_of(talk(server.port(), request("GET", "/api/v1/notes/1", "", ""))), 200);
}

}  // namespace
}  // namespace rackmark::http
