#include "worker/collective/parameter_server.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "common/clock.hpp"
#include "common/json/described.hpp"
#include "worker/collective/post.hpp"
#include "worker/collective/shards.hpp"
#include "worker/collective/wire.hpp"

namespace rackmark::worker {

namespace {

constexpr int kUnderWay = 2;  // messages between two ends in one direction
constexpr std::size_t kLongestHistogram = 1001;

// Who keeps which shard, the same on every rank.
struct Layout {
  std::vector<Shard> shards;
  std::int64_t workers = 1, servers = 1;
  bool dedicated = false;

  // Colocated servers are spread over the workers, and so over the hosts.
  std::int64_t rank_of(std::size_t shard) const {
    const std::int64_t server = shards[shard].server;
    if (dedicated) return workers + server;
    return servers <= workers ? server * workers / servers : server % workers;
  }
  std::set<std::int64_t> server_ranks() const {
    std::set<std::int64_t> ranks;
    for (std::size_t s = 0; s < shards.size(); ++s) ranks.insert(rank_of(s));
    return ranks;
  }
  int start_tag(std::size_t shard) const { return static_cast<int>(3 * shard); }
  int push_tag(std::size_t shard) const { return static_cast<int>(3 * shard + 1); }
  int answer_tag(std::size_t shard) const { return static_cast<int>(3 * shard + 2); }
  int leave_tag() const { return static_cast<int>(3 * shards.size()); }
};

// Collective. `mine` is empty on ranks without a plan; rank 0 decides.
Layout agree_on_layout(Communicator& ranks, const ServerSetup& setup,
                       const std::vector<Shard>& mine) {
  ranks.barrier();  // servers have been waiting since before the workers made their plans
  const auto texts = ranks.all_gather(ranks.rank() == 0 ? shards_to_text(mine) : "");
  return {.shards = shards_from_text(texts.front()),
          .workers = setup.workers,
          .servers = setup.spec.servers,
          .dedicated = setup.spec.placement == ServerPlacement::kDedicated};
}

std::span<const std::byte> as_bytes_of(std::span<const float> values) {
  return std::as_bytes(values);
}

std::int64_t now_ns() { return SystemClock().monotonic_ns(); }

// The servers of one process, which share their shards.
class ServerEnd {
 public:
  ServerEnd(Post& post, const Layout& layout, std::int64_t rank, const ServerSetup& setup)
      : post_(post),
        layout_(layout),
        kept_(kept_by(layout, rank)),
        server_({.workers = setup.workers,
                 .consistency = setup.spec.consistency,
                 .staleness = setup.spec.staleness.value_or(0),
                 .wire = setup.spec.wire,
                 .schedule = setup.schedule,
                 .now_ns = now_ns},
                sizes_of(layout, kept_)),
        queues_(static_cast<std::size_t>(setup.workers)) {
    for (std::size_t k = 0; k < kept_.size(); ++k) {
      post_.receive(0, layout_.start_tag(kept_[k]), std::as_writable_bytes(server_.weights(k)),
                    [this, k] { started(k); });
    }
    if (kept_.empty()) return;
    for (std::int64_t worker = 0; worker < setup.workers; ++worker) {
      post_.receive(worker, layout_.leave_tag(), {},
                    [this, worker] { server_.worker_left(worker); });
    }
  }
  ServerEnd(const ServerEnd&) = delete;
  ServerEnd& operator=(const ServerEnd&) = delete;

  bool over() const { return kept_.empty() || server_.all_left(); }
  bool keeps_any() const { return !kept_.empty(); }
  std::int64_t steps() const { return server_.steps_of_all(); }

  // Starts what may leave now; false: nothing.
  bool send_answers() {
    for (VariableServer::Answer& answer : server_.take_answers()) {
      Queue& queue = queues_[static_cast<std::size_t>(answer.worker)];
      queue.waiting.emplace(kept_[answer.shard], std::move(answer.bytes));
    }
    bool any = false;
    for (std::size_t worker = 0; worker < queues_.size(); ++worker) {
      Queue& queue = queues_[worker];
      while (queue.under_way < kUnderWay && !queue.waiting.empty()) {
        send_next(static_cast<std::int64_t>(worker), queue);
        any = true;
      }
    }
    return any;
  }

 private:
  struct Queue {                                                            // of one worker
    std::map<std::size_t, std::vector<std::byte>, std::greater<>> waiting;  // needed first is first
    int under_way = 0;
  };

  static std::vector<std::size_t> kept_by(const Layout& layout, std::int64_t rank) {
    std::vector<std::size_t> kept;
    for (std::size_t s = 0; s < layout.shards.size(); ++s) {
      if (layout.rank_of(s) == rank) kept.push_back(s);
    }
    return kept;
  }
  static std::vector<std::int64_t> sizes_of(const Layout& layout,
                                            const std::vector<std::size_t>& kept) {
    std::vector<std::int64_t> sizes;
    for (const std::size_t s : kept) sizes.push_back(layout.shards[s].range.count);
    return sizes;
  }

  // No gradient may meet a shard that has no weights yet.
  void started(std::size_t k) {
    for (std::int64_t worker = 0; worker < layout_.workers; ++worker) expect(k, worker);
  }

  void expect(std::size_t k, std::int64_t worker) {
    post_.receive(worker, layout_.push_tag(kept_[k]), server_.slot(k, worker), [this, k, worker] {
      server_.gradient_arrived(k, worker);
      expect(k, worker);
    });
  }

  void send_next(std::int64_t worker, Queue& queue) {
    auto next = queue.waiting.extract(queue.waiting.begin());
    const auto bytes = std::make_shared<std::vector<std::byte>>(std::move(next.mapped()));
    ++queue.under_way;
    post_.send(worker, layout_.answer_tag(next.key()), *bytes,
               [&queue, bytes] { --queue.under_way; });
  }

  Post& post_;
  const Layout& layout_;
  const std::vector<std::size_t> kept_;  // shards
  VariableServer server_;
  std::vector<Queue> queues_;  // by worker
};

class ParameterServer : public GradientExchange {
 public:
  ParameterServer(TrainPlan& plan, Communicator& ranks, const ServerSetup& setup)
      : plan_(plan),
        gradients_(plan.gradient_block()),
        parameters_(plan.parameter_block()),
        setup_(setup),
        rank_(ranks.rank()),
        layout_(agree_on_layout(ranks, setup,
                                make_shards(plan, setup.spec.shard_bytes, setup.spec.servers))),
        post_(ranks.open_messages()),
        server_(post_, layout_, rank_, setup),
        shards_of_(plan.net().parameters().size()),
        gradients_in_(layout_.shards.size()),
        missing_(layout_.shards.size()),
        fresh_(layout_.shards.size(), true),
        held_ms_(layout_.shards.size()),
        incoming_(layout_.shards.size()),
        outgoing_(layout_.shards.size()) {
    for (std::size_t s = 0; s < layout_.shards.size(); ++s) {
      incoming_[s].resize(answer_bytes(wire(), layout_.shards[s].range.count));
    }
    find_shards_of_parameters();
    if (rank_ == 0) send_start();
    thread_ = std::thread([this] { message_loop(); });
  }
  ParameterServer(const ParameterServer&) = delete;
  ParameterServer& operator=(const ParameterServer&) = delete;
  ~ParameterServer() override {
    leave();
    thread_.join();
  }

  std::string label() const override { return server_label(setup_); }

  // From here on the gradients are written, which earlier pushes were sent from.
  void begin_step(const SgdStep& step) override {
    wait_for_all();
    step_ = step;
    missing_ = gradients_in_;
    const std::lock_guard lock(mutex_);
    may_write_ = false;
  }

  void ready(int parameter) override {
    for (const std::size_t shard : shards_of_[static_cast<std::size_t>(parameter)]) {
      if (--missing_[shard] == 0) push(shard);
    }
  }

  ExchangeWaits finish_step() override {
    // A gradient that backward did not name is as final as it will be.
    for (std::size_t shard = 0; shard < missing_.size(); ++shard) {
      if (missing_[shard] > 0) push(shard);
    }
    order([this] { may_write_ = true; });
    return std::exchange(waits_, {});
  }

  void needed(int parameter) override {
    for (const std::size_t shard : shards_of_[static_cast<std::size_t>(parameter)]) wait_for(shard);
  }

  ExchangeWaits settle() override {
    wait_for_all();
    return std::exchange(waits_, {});
  }

  void leave() override {
    order([this] { leaving_ = true; });
  }

  std::vector<std::int64_t> staleness() const override {
    const std::lock_guard lock(mutex_);
    return staleness_;
  }

 private:
  Precision wire() const { return setup_.spec.wire; }
  std::span<float> part(std::span<float> block, std::size_t shard) const {
    const TrainPlan::Extent& range = layout_.shards[shard].range;
    return block.subspan(static_cast<std::size_t>(range.offset),
                         static_cast<std::size_t>(range.count));
  }

  void find_shards_of_parameters() {
    for (std::size_t p = 0; p < shards_of_.size(); ++p) {
      const TrainPlan::Extent extent = plan_.extent(static_cast<int>(p));
      for (std::size_t s = 0; s < layout_.shards.size(); ++s) {
        const TrainPlan::Extent& range = layout_.shards[s].range;
        if (range.offset < extent.offset + extent.count &&
            extent.offset < range.offset + range.count) {
          shards_of_[p].push_back(s);
          ++gradients_in_[s];
        }
      }
    }
  }

  void send_start() {
    for (std::size_t s = 0; s < layout_.shards.size(); ++s) {
      post_.send(layout_.rank_of(s), layout_.start_tag(s), as_bytes_of(part(parameters_, s)),
                 [] {});
    }
  }

  // Tells the thread of messages something.
  template <class Change>
  void order(const Change& change) {
    {
      const std::lock_guard lock(mutex_);
      change();
      ++orders_;
    }
    changed_.notify_all();
  }

  void push(std::size_t shard) {
    missing_[shard] = 0;
    order([&] {
      fresh_[shard] = false;
      to_push_.insert(shard);
    });
  }

  void wait_for_all() {
    for (std::size_t shard = fresh_.size(); shard-- > 0;) wait_for(shard);
  }

  // The time in which a server held the answer back is the server's, the rest is communication.
  void wait_for(std::size_t shard) {
    std::unique_lock lock(mutex_);
    if (!fresh_[shard] && !error_) {
      const std::int64_t start_ns = now_ns();
      changed_.wait(lock, [&] { return fresh_[shard] || error_; });
      const double waited_ms = static_cast<double>(now_ns() - start_ns) * 1e-6;
      const double server_ms = std::min(waited_ms, held_ms_[shard]);
      waits_.server_ms += server_ms;
      waits_.communication_ms += waited_ms - server_ms;
    }
    if (error_) std::rethrow_exception(error_);
  }

  // --- the thread of messages

  void message_loop() try {
    Backoff backoff;
    for (;;) {
      bool may_write = false, leaving = false;
      take_orders(may_write, leaving);
      bool busy = start_pushes();
      busy = post_.progress() || busy;
      busy = server_.send_answers() || busy;
      if (may_write) busy = write_one() || busy;
      if (leaving && pushes_.empty() && unanswered_ == 0 && !left_) say_goodbye();
      if (left_ && goodbyes_ == 0 && server_.over()) return;
      if (busy) {
        backoff.reset();
      } else {
        nap(backoff);
      }
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    changed_.notify_all();
  }

  void take_orders(bool& may_write, bool& leaving) {
    const std::lock_guard lock(mutex_);
    pushes_.insert(to_push_.begin(), to_push_.end());
    to_push_.clear();
    orders_seen_ = orders_;
    may_write = may_write_;
    leaving = leaving_;
  }

  void nap(Backoff& backoff) {
    std::unique_lock lock(mutex_);
    const auto ordered = [this] { return orders_ != orders_seen_; };
    if (post_.idle()) {
      changed_.wait(lock, ordered);
    } else {
      changed_.wait_for(lock, backoff.next(), ordered);
    }
  }

  bool start_pushes() {
    bool any = false;
    for (auto it = pushes_.begin(); it != pushes_.end();) {
      const std::size_t shard = *it;
      int& under_way = under_way_[layout_.rank_of(shard)];
      if (under_way >= kUnderWay) {
        ++it;
        continue;
      }
      it = pushes_.erase(it);
      ++under_way;
      ++unanswered_;
      any = true;
      post_.receive(layout_.rank_of(shard), layout_.answer_tag(shard), incoming_[shard],
                    [this, shard] { arrived_.insert(shard); });
      post_.send(layout_.rank_of(shard), layout_.push_tag(shard), outgoing(shard),
                 [&under_way] { --under_way; });
    }
    return any;
  }

  std::span<const std::byte> outgoing(std::size_t shard) {
    const std::span<float> gradients = part(gradients_, shard);
    if (wire() == Precision::kFp32) return as_bytes_of(gradients);
    outgoing_[shard].resize(wire_bytes(wire(), layout_.shards[shard].range.count));
    to_wire(wire(), gradients, outgoing_[shard].data());
    return outgoing_[shard];
  }

  // One at a time, so that messages go on in between. Backward reads the weights of layers whose
  // gradients are final already: nothing is written before it has ended.
  bool write_one() {
    if (arrived_.empty()) return false;
    const std::size_t shard = *arrived_.begin();
    arrived_.erase(arrived_.begin());
    AnswerHeader header;
    std::memcpy(&header, incoming_[shard].data(), sizeof header);
    from_wire(wire(), incoming_[shard].data() + sizeof header, part(parameters_, shard));
    --unanswered_;
    const std::lock_guard lock(mutex_);
    fresh_[shard] = true;
    held_ms_[shard] = static_cast<double>(header.held_ns) * 1e-6;
    const std::size_t at =
        std::min(static_cast<std::size_t>(header.staleness), kLongestHistogram - 1);
    if (at >= staleness_.size()) staleness_.resize(at + 1);
    ++staleness_[at];
    changed_.notify_all();
    return true;
  }

  void say_goodbye() {
    left_ = true;
    for (const std::int64_t rank : layout_.server_ranks()) {
      ++goodbyes_;
      post_.send(rank, layout_.leave_tag(), {}, [this] { --goodbyes_; });
    }
  }

  TrainPlan& plan_;
  const std::span<float> gradients_, parameters_;
  const ServerSetup setup_;
  const std::int64_t rank_;
  const Layout layout_;
  Post post_;         // thread of messages, once it runs
  ServerEnd server_;  // the same

  // Of the training thread.
  std::vector<std::vector<std::size_t>> shards_of_;  // by parameter
  std::vector<std::size_t> gradients_in_,
      missing_;          // by shard: gradients it takes, still waits for
  ExchangeWaits waits_;  // since the last finish_step()

  // Between the two threads.
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::size_t> to_push_;
  std::vector<bool> fresh_;      // by shard: the plan holds the newest variables
  std::vector<double> held_ms_;  // by shard: of the last answer
  std::vector<std::int64_t> staleness_;
  bool may_write_ = true, leaving_ = false;
  std::uint64_t orders_ = 0;
  std::exception_ptr error_;

  // Of the thread of messages. What the next forward pass needs first is first.
  using Needed = std::set<std::size_t, std::greater<>>;
  Needed pushes_, arrived_;
  std::map<std::int64_t, int> under_way_;  // pushes, by rank of the server
  std::vector<std::vector<std::byte>> incoming_, outgoing_;
  std::size_t unanswered_ = 0;
  std::uint64_t orders_seen_ = 0;
  int goodbyes_ = 0;
  bool left_ = false;
  std::thread thread_;
};

class DedicatedServer : public VariableService {
 public:
  DedicatedServer(Communicator& ranks, const ServerSetup& setup)
      : layout_(agree_on_layout(ranks, setup, {})),
        post_(ranks.open_messages()),
        server_(post_, layout_, ranks.rank(), setup) {}
  bool turn() override {
    const bool moved = post_.progress();
    return server_.send_answers() || moved;
  }
  bool over() const override { return server_.over(); }
  std::int64_t steps() const override { return server_.keeps_any() ? server_.steps() : 0; }

 private:
  const Layout layout_;
  Post post_;
  ServerEnd server_;
};

}  // namespace

std::unique_ptr<GradientExchange> make_parameter_server(TrainPlan& plan, Communicator& ranks,
                                                        const ServerSetup& setup) {
  return std::make_unique<ParameterServer>(plan, ranks, setup);
}

std::unique_ptr<VariableService> make_variable_service(Communicator& ranks,
                                                       const ServerSetup& setup) {
  return std::make_unique<DedicatedServer>(ranks, setup);
}

std::string server_label(const ServerSetup& setup) {
  const ParameterServerSpec& spec = setup.spec;
  const auto counted = [](std::int64_t n, const std::string& what) {
    return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
  };
  const std::string place = json::enum_name(spec.placement);
  std::string label = "parameter_server (" + counted(setup.workers, "worker") + ", ";
  label += spec.servers == 1 ? place + " server" : counted(spec.servers, place + " server");
  if (spec.consistency != Consistency::kSync) label += ", " + json::enum_name(spec.consistency);
  if (spec.consistency == Consistency::kBounded) {
    label += " " + std::to_string(spec.staleness.value_or(0));
  }
  if (spec.wire != Precision::kFp32) label += ", " + json::enum_name(spec.wire) + " wire";
  return label + ")";
}

}  // namespace rackmark::worker
