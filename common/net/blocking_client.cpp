#include "common/net/asio_beast.hpp"
#include "common/net/http_client.hpp"

namespace rackmark::net {
namespace asio = boost::asio;

struct BlockingClient::Impl {
  explicit Impl(BaseUrl base) : client(context.get_executor(), std::move(base)) {}
  asio::io_context context{1};
  HttpClient client;

  template <class T>
  Result<T> wait(asio::awaitable<Result<T>> task) {
    std::exception_ptr broken;
    std::optional<Result<T>> value;
    context.restart();
    auto ended = [&](std::exception_ptr error, Result<T> result) {
      broken = std::move(error);
      value.emplace(std::move(result));
    };
    asio::co_spawn(context, std::move(task), std::move(ended));
    context.run();
    if (broken) std::rethrow_exception(broken);
    return std::move(*value);
  }
};

BlockingClient::BlockingClient(BaseUrl base) : impl_(new Impl(std::move(base))) {}
BlockingClient::~BlockingClient() = default;

const BaseUrl& BlockingClient::base() const { return impl_->client.base(); }

void BlockingClient::set_header(std::string name, std::string value) {
  impl_->client.set_header(std::move(name), std::move(value));
}

Result<HttpReply> BlockingClient::request(HttpCall call) {
  return impl_->wait<HttpReply>(impl_->client.request(std::move(call)));
}

Result<void> BlockingClient::events(std::string target, SseOptions options,
                                    std::function<bool(const SseEvent&)> on_event) {
  return impl_->wait<void>(
      read_events(base(), std::move(target), std::move(options), std::move(on_event)));
}

}  // namespace rackmark::net
