#include "controller/http/typed_route.hpp"

#include "common/net/offload.hpp"

namespace rackmark::http {
namespace asio = boost::asio;

namespace {

asio::awaitable<Response> run_there(asio::any_io_executor where,
                                    std::shared_ptr<const SyncHandler> work, Request request) {
  auto call = [work, request = std::move(request)]() -> Response { return (*work)(request); };
  Response response = co_await net::offload(std::move(where), std::move(call));
  co_return response;
}

}  // namespace

Handler on_thread(asio::any_io_executor where, SyncHandler work) {
  return [where = std::move(where), shared = std::make_shared<const SyncHandler>(std::move(work))](
             Request request) { return run_there(where, shared, std::move(request)); };
}

Response refused(Error error, const Request& request) {
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (reads && error.code == ErrorCode::kInvalid) error.code = ErrorCode::kMalformed;
  return problem(error, request.path);
}

Response json_response(int status, const nlohmann::json& body) {
  Response response;
  response.status = status;
  response.content_type = "application/json";
  // Text that came from outside may hold broken UTF-8; it is shown replaced, not refused.
  response.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return response;
}

}  // namespace rackmark::http
