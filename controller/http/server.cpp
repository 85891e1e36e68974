#include "controller/http/server.hpp"

#include "common/net/log.hpp"
#include "common/net/task_group.hpp"
#include "controller/http/session.hpp"

namespace rackmark::http {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {
constexpr std::size_t kRefusing = 64;  // connections that are being told 503 at one time
}

struct Server::Impl {
  Impl(asio::any_io_executor executor, std::shared_ptr<SessionContext> ctx)
      : context(std::move(ctx)), acceptor(executor), tasks(executor), accepting(executor) {}
  std::shared_ptr<SessionContext> context;
  tcp::acceptor acceptor;
  net::TaskGroup tasks;      // sessions
  net::TaskGroup accepting;  // the loop that makes them
};

namespace {

asio::awaitable<void> accept_loop(tcp::acceptor& acceptor, net::TaskGroup& tasks,
                                  std::shared_ptr<SessionContext> context) {
  for (;;) {
    error_code ec;
    tcp::socket socket =
        co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, ec));
    if (ec == asio::error::operation_aborted || !acceptor.is_open()) co_return;
    if (ec) {
      log::warning("accept: {}", ec.message());  // no file descriptors: others will end
      co_await net::sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    const std::size_t limit = context->options.max_connections;
    if (tasks.size() < limit) {
      tasks.spawn("connection", run_session(context, std::move(socket)));
    } else if (tasks.size() < limit + kRefusing) {
      tasks.spawn("refused connection", refuse_session(context, std::move(socket)));
    }
  }
}

}  // namespace

Server::Server(asio::any_io_executor executor, ServerOptions options, const Router& router,
               std::function<void(const Observation&)> observe)
    : impl_(std::make_shared<Impl>(
          executor, std::make_shared<SessionContext>(SessionContext{
                        std::move(options), router, std::move(observe), {}, false}))) {}

Server::~Server() = default;

void Server::start() {
  const auto& options = impl_->context->options;
  const tcp::endpoint endpoint(asio::ip::make_address(options.address), options.port);
  auto& acceptor = impl_->acceptor;
  acceptor.open(endpoint.protocol());
  acceptor.set_option(tcp::acceptor::reuse_address(true));
  acceptor.bind(endpoint);
  acceptor.listen(512);
  impl_->accepting.spawn("listener", accept_loop(acceptor, impl_->tasks, impl_->context));
}

std::uint16_t Server::port() const { return impl_->acceptor.local_endpoint().port(); }
std::size_t Server::connections() const { return impl_->tasks.size(); }

asio::awaitable<void> Server::stop(std::chrono::milliseconds grace) {
  auto impl = impl_;
  impl->context->stopping = true;
  error_code ignored;  // closing cannot fail in a way that matters here
  impl->acceptor.close(ignored);
  for (auto* stream : impl->context->idle) stream->socket().cancel(ignored);
  co_await impl->accepting.stop(std::chrono::milliseconds(0), std::chrono::milliseconds(200));
  co_await impl->tasks.stop(grace, std::chrono::milliseconds(500));
}

}  // namespace rackmark::http
