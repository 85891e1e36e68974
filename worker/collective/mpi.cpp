// librackmark-mpi.so: the communicator over Open MPI. The only file that knows MPI.
#include <mpi.h>

#include <algorithm>
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

// Open MPI chooses by size unless told; the names are ours, the numbers those of coll/tuned.
void choose_algorithm(const std::string& name) {
  const char* number = nullptr;
  if (name == "recursive_doubling") number = "3";
  if (name == "ring") number = "4";
  if (name == "rabenseifner") number = "6";
  if (number == nullptr) return;
  ::setenv("OMPI_MCA_coll_tuned_use_dynamic_rules", "1", 1);
  ::setenv("OMPI_MCA_coll_tuned_allreduce_algorithm", number, 1);
}

class MpiCommunicator : public Communicator {
 public:
  explicit MpiCommunicator(const CommunicatorOptions& options) {
    choose_algorithm(options.all_reduce_algorithm);
    int provided = MPI_THREAD_SINGLE;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_SERIALIZED) {
      throw std::runtime_error(
          "MPI: this library lets only one thread call it (MPI_Init_thread gave level " +
          std::to_string(provided) + "); gradients are exchanged by a thread of their own, which " +
          "needs MPI_THREAD_SERIALIZED");
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  }

  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }

  std::map<std::string, std::string> libraries() const override {
    return {{"openmpi", std::to_string(OMPI_MAJOR_VERSION) + "." +
                            std::to_string(OMPI_MINOR_VERSION) + "." +
                            std::to_string(OMPI_RELEASE_VERSION)}};
  }

  void barrier() override { check_mpi(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }

  void all_reduce_sum(std::span<float> values) override {
    for (std::size_t at = 0; at < values.size(); at += kMaxCount) {
      const auto count = static_cast<int>(std::min(kMaxCount, values.size() - at));
      check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data() + at, count, MPI_FLOAT, MPI_SUM,
                              MPI_COMM_WORLD),
                "MPI_Allreduce");
    }
  }

  double all_reduce_max(double value) override {
    double largest = 0;
    check_mpi(MPI_Allreduce(&value, &largest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD),
              "MPI_Allreduce");
    return largest;
  }

  void broadcast(std::span<float> values, std::int64_t root) override {
    for (std::size_t at = 0; at < values.size(); at += kMaxCount) {
      const auto count = static_cast<int>(std::min(kMaxCount, values.size() - at));
      check_mpi(
          MPI_Bcast(values.data() + at, count, MPI_FLOAT, static_cast<int>(root), MPI_COMM_WORLD),
          "MPI_Bcast");
    }
  }

  std::vector<std::string> all_gather(const std::string& text) override {
    const int mine = static_cast<int>(text.size());
    std::vector<int> lengths(static_cast<std::size_t>(size_)), offsets(lengths.size());
    check_mpi(MPI_Allgather(&mine, 1, MPI_INT, lengths.data(), 1, MPI_INT, MPI_COMM_WORLD),
              "MPI_Allgather");
    int total = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      offsets[i] = total;
      total += lengths[i];
    }
    std::string all(static_cast<std::size_t>(total), '\0');
    check_mpi(MPI_Allgatherv(text.data(), mine, MPI_CHAR, all.data(), lengths.data(),
                             offsets.data(), MPI_CHAR, MPI_COMM_WORLD),
              "MPI_Allgatherv");
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      texts.push_back(
          all.substr(static_cast<std::size_t>(offsets[i]), static_cast<std::size_t>(lengths[i])));
    }
    return texts;
  }

  void finish() override { check_mpi(MPI_Finalize(), "MPI_Finalize"); }
  void abort(int exit_status) override { MPI_Abort(MPI_COMM_WORLD, exit_status); }

 private:
  int rank_ = 0, size_ = 1;
};

}  // namespace

}  // namespace rackmark::worker

extern "C" __attribute__((visibility("default"))) rackmark::worker::Communicator*
rackmark_make_communicator(const rackmark::worker::CommunicatorOptions& options) {
  return new rackmark::worker::MpiCommunicator(options);
}
