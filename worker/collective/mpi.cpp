// librackmark-mpi.so: the communicator over Open MPI. The only file that knows MPI.
#include <mpi.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <source_location>
#include <stdexcept>

#include "worker/collective/communicator.hpp"

namespace rackmark::worker {

namespace {

void check_mpi(int code, const char* call,
               std::source_location where = std::source_location::current()) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error("MPI: " + std::string(call) + ": " + text + " (" + std::to_string(code) +
                           ", mpi.cpp:" + std::to_string(where.line()) + ")");
}

// Counts of MPI calls are ints.
constexpr std::size_t kMaxCount = std::size_t{1} << 30;

// The numbers of coll/tuned for our names; null: the library chooses by size.
const char* number_of(const std::string& algorithm) {
  if (algorithm == "recursive_doubling") return "3";
  if (algorithm == "ring") return "4";
  if (algorithm == "rabenseifner") return "6";
  return nullptr;
}

// Before MPI_Init_thread, which reads the environment. Components that would take the operation
// away from coll/tuned (Open MPI 5 prefers coll/han across hosts) stand back.
void choose_algorithm(const char* number) {
  ::setenv("OMPI_MCA_coll_tuned_use_dynamic_rules", "1", 1);
  ::setenv("OMPI_MCA_coll_tuned_allreduce_algorithm", number, 1);
  ::setenv("OMPI_MCA_coll_han_priority", "0", 1);
  ::setenv("OMPI_MCA_coll_adapt_priority", "0", 1);
}

// What the library says that it uses: a choice that did not arrive must not be reported as made.
int algorithm_in_use() {
  const char* const name = "coll_tuned_allreduce_algorithm";
  int provided = 0, index = 0, count = 0, value = -1;
  MPI_T_cvar_handle handle = MPI_T_CVAR_HANDLE_NULL;
  check_mpi(MPI_T_init_thread(MPI_THREAD_SINGLE, &provided), "MPI_T_init_thread");
  if (MPI_T_cvar_get_index(name, &index) == MPI_SUCCESS &&
      MPI_T_cvar_handle_alloc(index, nullptr, &handle, &count) == MPI_SUCCESS) {
    check_mpi(MPI_T_cvar_read(handle, &value), "MPI_T_cvar_read");
    MPI_T_cvar_handle_free(&handle);
  }
  MPI_T_finalize();
  return value;
}

// Tickets are places in the list of requests.
class MpiMessages : public Messages {
 public:
  explicit MpiMessages(MPI_Comm all) {
    check_mpi(MPI_Comm_dup(all, &comm_), "MPI_Comm_dup");
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  }
  MpiMessages(const MpiMessages&) = delete;
  MpiMessages& operator=(const MpiMessages&) = delete;
  ~MpiMessages() override {
    for (MPI_Request& request : requests_) {
      if (request == MPI_REQUEST_NULL) continue;
      MPI_Cancel(&request);
      MPI_Request_free(&request);
    }
  }

  Ticket send(std::int64_t to, int tag, std::span<const std::byte> bytes) override {
    const Ticket ticket = free_ticket();
    check_mpi(MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE,
                        static_cast<int>(to), tag, comm_, &requests_[ticket]),
              "MPI_Isend");
    return ticket;
  }
  Ticket receive(std::int64_t from, int tag, std::span<std::byte> bytes) override {
    const Ticket ticket = free_ticket();
    check_mpi(MPI_Irecv(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE,
                        static_cast<int>(from), tag, comm_, &requests_[ticket]),
              "MPI_Irecv");
    return ticket;
  }
  std::vector<Ticket> progress() override {
    std::vector<Ticket> finished;
    if (requests_.empty()) return finished;
    const int all = static_cast<int>(requests_.size());
    indices_.resize(requests_.size());
    int count = 0;
    check_mpi(MPI_Testsome(all, requests_.data(), &count, indices_.data(), MPI_STATUSES_IGNORE),
              "MPI_Testsome");
    for (int i = 0; count != MPI_UNDEFINED && i < count; ++i) {
      finished.push_back(static_cast<Ticket>(indices_[static_cast<std::size_t>(i)]));
    }
    free_.insert(free_.end(), finished.begin(), finished.end());
    return finished;
  }

 private:
  Ticket free_ticket() {
    if (free_.empty()) {
      requests_.push_back(MPI_REQUEST_NULL);
      return requests_.size() - 1;
    }
    const Ticket ticket = free_.back();
    free_.pop_back();
    return ticket;
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  std::vector<MPI_Request> requests_;
  std::vector<int> indices_;
  std::vector<Ticket> free_;
};

class MpiCommunicator : public Communicator {
 public:
  explicit MpiCommunicator(const CommunicatorOptions& options) {
    const char* const number = number_of(options.all_reduce_algorithm);
    if (number != nullptr) choose_algorithm(number);
    // The thread that waits in a collective shares its core with computing. Who launched may have
    // said otherwise.
    ::setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    int provided = MPI_THREAD_SINGLE;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_SERIALIZED) {
      throw std::runtime_error(
          "MPI: this library lets only one thread call it (MPI_Init_thread gave level " +
          std::to_string(provided) + "); gradients are exchanged by a thread of their own, which " +
          "needs MPI_THREAD_SERIALIZED");
    }
    many_threads_ = provided >= MPI_THREAD_MULTIPLE;
    if (number != nullptr) {
      if (const int used = algorithm_in_use(); used != std::atoi(number)) {
        throw std::runtime_error("MPI: all-reduce algorithm " + options.all_reduce_algorithm +
                                 " (" + number + " of coll/tuned) was asked for, the library " +
                                 "says " + std::to_string(used));
      }
      forced_ = options.all_reduce_algorithm;
    }
    int launched = 0;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &launched), "MPI_Comm_rank");
    use(MPI_COMM_WORLD, 0, static_cast<int>(options.rank.value_or(launched)));
  }

  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }

  std::map<std::string, std::string> libraries() const override {
    return {{"openmpi", std::to_string(OMPI_MAJOR_VERSION) + "." +
                            std::to_string(OMPI_MINOR_VERSION) + "." +
                            std::to_string(OMPI_RELEASE_VERSION)}};
  }
  std::string forced_algorithm() const override { return forced_; }

  // Ranks can be far apart here (set-up, the end of an asynchronous run): who waits for long
  // sleeps in between, instead of taking a core from those that still work.
  void barrier() override {
    constexpr int kEagerTurns = 2000;
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Ibarrier(comm_, &request), "MPI_Ibarrier");
    int done = 0;
    for (int turn = 0; done == 0; ++turn) {
      check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      if (done == 0 && turn > kEagerTurns) {
        const timespec nap{0, 100'000};
        ::nanosleep(&nap, nullptr);
      }
    }
  }

  void all_reduce_sum(std::span<float> values) override {
    for (std::size_t at = 0; at < values.size(); at += kMaxCount) {
      const auto count = static_cast<int>(std::min(kMaxCount, values.size() - at));
      check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data() + at, count, MPI_FLOAT, MPI_SUM, comm_),
                "MPI_Allreduce");
    }
  }

  double all_reduce_max(double value) override {
    double largest = 0;
    check_mpi(MPI_Allreduce(&value, &largest, 1, MPI_DOUBLE, MPI_MAX, comm_), "MPI_Allreduce");
    return largest;
  }

  void broadcast(std::span<float> values, std::int64_t root) override {
    for (std::size_t at = 0; at < values.size(); at += kMaxCount) {
      const auto count = static_cast<int>(std::min(kMaxCount, values.size() - at));
      check_mpi(MPI_Bcast(values.data() + at, count, MPI_FLOAT, static_cast<int>(root), comm_),
                "MPI_Bcast");
    }
  }

  std::vector<std::string> all_gather(const std::string& text) override {
    const int mine = static_cast<int>(text.size());
    std::vector<int> lengths(static_cast<std::size_t>(size_)), offsets(lengths.size());
    check_mpi(MPI_Allgather(&mine, 1, MPI_INT, lengths.data(), 1, MPI_INT, comm_), "MPI_Allgather");
    int total = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      offsets[i] = total;
      total += lengths[i];
    }
    std::string all(static_cast<std::size_t>(total), '\0');
    check_mpi(MPI_Allgatherv(text.data(), mine, MPI_CHAR, all.data(), lengths.data(),
                             offsets.data(), MPI_CHAR, comm_),
              "MPI_Allgatherv");
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      texts.push_back(
          all.substr(static_cast<std::size_t>(offsets[i]), static_cast<std::size_t>(lengths[i])));
    }
    return texts;
  }

  void all_to_all(std::span<const std::uint16_t> send, std::span<std::uint16_t> receive) override {
    const int each = static_cast<int>(send.size() / static_cast<std::size_t>(size_));
    check_mpi(
        MPI_Alltoall(send.data(), each, MPI_UINT16_T, receive.data(), each, MPI_UINT16_T, comm_),
        "MPI_Alltoall");
  }
  void all_gather(std::span<const std::uint16_t> mine, std::span<std::uint16_t> all) override {
    const int each = static_cast<int>(mine.size());
    check_mpi(MPI_Allgather(mine.data(), each, MPI_UINT16_T, all.data(), each, MPI_UINT16_T, comm_),
              "MPI_Allgather");
  }

  std::unique_ptr<Communicator> first_ranks(std::int64_t count) override {
    auto part = std::unique_ptr<MpiCommunicator>(new MpiCommunicator);
    part->many_threads_ = many_threads_;
    part->forced_ = forced_;
    part->use(comm_, rank_ < count ? 0 : MPI_UNDEFINED, rank_);
    if (part->comm_ == MPI_COMM_NULL) return nullptr;
    return part;
  }

  std::unique_ptr<Messages> open_messages() override {
    if (!many_threads_) {
      throw std::runtime_error(
          "MPI: this library lets only one thread call it at a time; a parameter server needs "
          "MPI_THREAD_MULTIPLE");
    }
    return std::make_unique<MpiMessages>(comm_);
  }

  void finish() override { check_mpi(MPI_Finalize(), "MPI_Finalize"); }
  void abort(int exit_status) override { MPI_Abort(MPI_COMM_WORLD, exit_status); }

 private:
  MpiCommunicator() = default;

  // Becomes the part of `all` with an equal colour, ordered by `key`.
  void use(MPI_Comm all, int color, int key) {
    check_mpi(MPI_Comm_split(all, color, key, &comm_), "MPI_Comm_split");
    if (comm_ == MPI_COMM_NULL) return;
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  bool many_threads_ = false;
  std::string forced_;
};

}  // namespace

}  // namespace rackmark::worker

extern "C" __attribute__((visibility("default"))) rackmark::worker::Communicator*
rackmark_make_communicator(const rackmark::worker::CommunicatorOptions& options) {
  return new rackmark::worker::MpiCommunicator(options);
}
