#include "host_device.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "worker/backend/backend.hpp"

namespace rackmark::worker::cuda::test {
namespace {

std::vector<float> widened(Type type, const void* values, std::int64_t count) {
  std::vector<float> floats(static_cast<std::size_t>(count));
  host_kernels(type).widen(nullptr, {values, floats.data(), count});
  return floats;
}

void store(Type type, const std::vector<float>& values, void* to) {
  host_kernels(type).narrow(nullptr, {values.data(), to, static_cast<std::int64_t>(values.size())});
}

// Calls visit(pixel of y, pixel of x, place in the kernel) for every pair that a convolution joins.
template <class Visit>
void for_each_pair(const ConvolutionTask& t, const Visit& visit) {
  for (int n = 0; n < t.images; ++n) {
    for (int oh = 0; oh < t.out_height(); ++oh) {
      for (int ow = 0; ow < t.out_width(); ++ow) {
        for (int kh = 0; kh < t.kernel_h; ++kh) {
          const int ih = oh * t.stride + kh - t.pad_h;
          if (ih < 0 || ih >= t.height) continue;
          for (int kw = 0; kw < t.kernel_w; ++kw) {
            const int iw = ow * t.stride + kw - t.pad_w;
            if (iw < 0 || iw >= t.width) continue;
            visit((std::int64_t{n} * t.out_height() + oh) * t.out_width() + ow,
                  (std::int64_t{n} * t.height + ih) * t.width + iw, kh * t.kernel_w + kw);
          }
        }
      }
    }
  }
}

// Pictures as dense floats, and back.
std::vector<float> dense(Type type, const void* from, std::int64_t pixels, int channels,
                         std::int64_t stride) {
  const auto all = widened(type, from, (pixels - 1) * stride + channels);
  std::vector<float> values;
  for (std::int64_t p = 0; p < pixels; ++p) {
    values.insert(values.end(), all.begin() + p * stride, all.begin() + p * stride + channels);
  }
  return values;
}
void put(Type type, const std::vector<float>& values, void* to, std::int64_t pixels, int channels,
         std::int64_t stride) {
  for (std::int64_t p = 0; p < pixels; ++p) {
    host_kernels(type).narrow(nullptr,
                              {values.data() + p * channels,
                               static_cast<std::byte*>(to) + p * stride * width(type), channels});
  }
}

class HostConvolution final : public Convolution {
 public:
  HostConvolution(const ConvolutionTask& task, std::optional<double> ms) : t_(task), ms_(ms) {}
  std::optional<double> ms() const override { return ms_; }
  std::int64_t workspace_bytes() const override { return 512; }
  std::string implementation() const override { return "host loops"; }

  void run(const ConvolutionOperands& o, void* workspace) override {
    std::memset(workspace, 0xff, 512);  // which must be nobody else's
    for (const void* at : std::initializer_list<const void*>{
             o.x, o.w, o.y, o.bias, o.narrow_bias, o.residual, o.gradient, o.sums, o.x_scale,
             o.x_shift, o.norm.x, o.norm.sums}) {
      require_aligned(at);
    }
    switch (t_.pass) {
      case ConvolutionPass::kForward:
        return forward(o);
      case ConvolutionPass::kBackwardData:
        return backward_data(o);
      case ConvolutionPass::kBackwardWeights:
        return backward_weights(o);
    }
  }

 private:
  // What engines are told.
  static void require_aligned(const void* at) {
    if (reinterpret_cast<std::uintptr_t>(at) % 16 == 0) return;
    throw std::logic_error("a convolution's operand does not begin on 16 bytes");
  }
  std::int64_t x_pixels() const { return std::int64_t{t_.images} * t_.height * t_.width; }
  std::int64_t y_pixels() const {
    return std::int64_t{t_.images} * t_.out_height() * t_.out_width();
  }
  int area() const { return t_.kernel_h * t_.kernel_w; }
  std::vector<float> x(const void* from) const {
    return dense(t_.type, from, x_pixels(), t_.channels, t_.x_stride);
  }
  // As it is convolved: in the stored type.
  std::vector<float> x(const ConvolutionOperands& o) const {
    auto values = x(o.x);
    if (!t_.normed) return values;
    const auto factors = widened(t_.type, o.x_scale, t_.channels),
               shifts = widened(t_.type, o.x_shift, t_.channels);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t c = i % t_.channels;
      values[i] = std::max(values[i] * factors[c] + shifts[c], 0.0F);
    }
    std::vector<std::byte> stored(values.size() * std::size_t(width(t_.type)));
    store(t_.type, values, stored.data());
    return widened(t_.type, stored.data(), std::int64_t(values.size()));
  }
  std::vector<float> y(const void* from) const {
    return dense(t_.type, from, y_pixels(), t_.out, t_.y_stride);
  }
  // (place, channel, out) from the stored (out, place, channel): the inner loops run over `out`.
  std::vector<float> weights_by_out(const void* from) const {
    const auto stored = widened(t_.type, from, std::int64_t{t_.out} * area() * t_.channels);
    std::vector<float> turned(stored.size());
    for (int o = 0; o < t_.out; ++o)
      for (int k = 0; k < area() * t_.channels; ++k)
        turned[std::size_t(k) * t_.out + o] = stored[std::size_t(o) * area() * t_.channels + k];
    return turned;
  }

  // What follows the sums of integers.
  void scale(const ConvolutionOperands& o, std::vector<float>& out) const {
    std::vector<float> residual(out.size(), 0.0F);
    if (t_.residual) {
      residual =
          dense(t_.stored_residual(), o.residual, y_pixels(), t_.out, t_.stored_residual_stride());
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = out[i] * o.scale[i % t_.out] + o.bias[i % t_.out];
      if (t_.residual) out[i] += residual[i] * *o.residual_scale;
      if (t_.relu) out[i] = std::max(out[i], 0.0F);
    }
    put(t_.stored_y(), out, o.y, y_pixels(), t_.out, t_.y_stride);
  }

  void forward(const ConvolutionOperands& o) {
    const auto in = x(o), w = weights_by_out(o.w);
    std::vector<float> out(static_cast<std::size_t>(y_pixels() * t_.out), 0.0F);
    for_each_pair(t_, [&](std::int64_t py, std::int64_t px, int place) {
      float* to = &out[py * t_.out];
      for (int c = 0; c < t_.channels; ++c) {
        const float value = in[px * t_.channels + c];
        const float* row = &w[(std::size_t(place) * t_.channels + c) * t_.out];
        for (int k = 0; k < t_.out; ++k) to[k] += value * row[k];
      }
    });
    if (t_.is_integer()) return scale(o, out);
    if (t_.bias) {
      const auto bias = o.narrow_bias != nullptr ? widened(t_.type, o.narrow_bias, t_.out)
                                                 : std::vector<float>(o.bias, o.bias + t_.out);
      for (std::size_t i = 0; i < out.size(); ++i) out[i] += bias[i % t_.out];
    }
    if (t_.residual) {
      const auto residual = y(o.residual);
      std::transform(out.begin(), out.end(), residual.begin(), out.begin(), std::plus<>());
    }
    if (t_.relu) {
      for (float& value : out) value = std::max(value, 0.0F);
    }
    put(t_.type, out, o.y, y_pixels(), t_.out, t_.y_stride);
    if (t_.statistics) sum_up(out, o.sums);
  }
  void sum_up(const std::vector<float>& out, float* sums) const {
    std::vector<double> exact(2 * std::size_t(t_.out), 0.0);
    for (std::size_t i = 0; i < out.size(); ++i) {
      exact[i % t_.out] += out[i];
      exact[t_.out + i % t_.out] += double(out[i]) * out[i];
    }
    std::copy(exact.begin(), exact.end(), sums);
  }

  void backward_data(const ConvolutionOperands& o) {
    const auto dy = y(o.y), w = weights_by_out(o.w);
    std::vector<float> dx(static_cast<std::size_t>(x_pixels() * t_.channels), 0.0F);
    if (t_.accumulate) dx = x(o.x);
    for_each_pair(t_, [&](std::int64_t py, std::int64_t px, int place) {
      const float* from = &dy[py * t_.out];
      for (int c = 0; c < t_.channels; ++c) {
        const float* row = &w[(std::size_t(place) * t_.channels + c) * t_.out];
        float sum = 0;
        for (int k = 0; k < t_.out; ++k) sum += from[k] * row[k];
        dx[px * t_.channels + c] += sum;
      }
    });
    if (t_.norm_sums) sum_up_before(o.norm, dx);
    put(t_.type, dx, o.x, x_pixels(), t_.channels, t_.x_stride);
  }
  // Also spoils the rows of the sums that are the library's own.
  void sum_up_before(const NormOperands& norm, std::vector<float>& dx) const {
    const auto in = x(norm.x);
    const auto channels = std::size_t(t_.channels);
    std::vector<double> exact(NormOperands::kSums * channels, -77.0);
    std::fill_n(exact.begin(), 2 * channels, 0.0);
    for (std::size_t i = 0; i < dx.size(); ++i) {
      const std::size_t c = i % channels;
      const float normed = (in[i] - norm.mean[c]) * norm.inverse_deviation[c];
      if (!(normed * norm.weight[c] + norm.bias[c] > 0)) dx[i] = 0;
      exact[c] += dx[i];
      exact[channels + c] += double(dx[i]) * normed;
    }
    std::copy(exact.begin(), exact.end(), norm.sums);
  }

  void backward_weights(const ConvolutionOperands& o) {
    const auto in = x(o), dy = y(o.y);
    const std::int64_t row = std::int64_t{area()} * t_.channels;
    std::fill_n(o.gradient, t_.out * row, 0.0F);
    for_each_pair(t_, [&](std::int64_t py, std::int64_t px, int place) {
      const float* from = &in[px * t_.channels];
      for (int k = 0; k < t_.out; ++k) {
        const float value = dy[py * t_.out + k];
        float* to = o.gradient + k * row + std::int64_t{place} * t_.channels;
        for (int c = 0; c < t_.channels; ++c) to[c] += value * from[c];
      }
    });
  }

  ConvolutionTask t_;
  std::optional<double> ms_;
};

class HostProduct final : public Product {
 public:
  explicit HostProduct(const ProductTask& task) : t_(task) {}
  std::int64_t workspace_bytes() const override { return 0; }
  std::string implementation() const override { return "host loops"; }

  void run(const ProductOperands& o, void*) override {
    const auto a = plain(o.a, t_.rows, t_.inner, t_.transpose_a);
    const auto b = plain(o.b, t_.inner, t_.columns, t_.transpose_b);
    std::vector<float> c(static_cast<std::size_t>(t_.rows * t_.columns), 0.0F);
    for (std::int64_t r = 0; r < t_.rows; ++r) {
      for (std::int64_t i = 0; i < t_.inner; ++i) {
        const float value = a[r * t_.inner + i];
        const float* from = &b[i * t_.columns];
        float* to = &c[r * t_.columns];
        for (std::int64_t k = 0; k < t_.columns; ++k) to[k] += value * from[k];
      }
    }
    if (t_.is_integer()) {
      std::copy(c.begin(), c.end(), static_cast<std::int32_t*>(o.c));  // sums are below 2^24
    } else {
      store(t_.float_result ? Type::kFloat : t_.type, c, o.c);
    }
  }

 private:
  std::vector<float> plain(const void* from, std::int64_t rows, std::int64_t columns,
                           bool transposed) const {
    auto values = widened(t_.type, from, rows * columns);
    if (!transposed) return values;
    std::vector<float> turned(values.size());
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c) turned[r * columns + c] = values[c * rows + r];
    return turned;
  }
  ProductTask t_;
};

// What the device was given and has not run yet, in its order: recordings, and what was given after
// them. Kernels run at once: whoever asks for the queue to give it some waits for what comes
// before.
class HostQueue {
 public:
  explicit HostQueue(bool runs_late) : runs_late_(runs_late) {}
  void give(std::function<void()> work) {
    given_.push_back(std::move(work));
    if (!runs_late_ || replays_ == 0) run();
  }
  void replay(const std::function<void()>& work) {
    ++replays_;
    give([this, work] {
      --replays_;
      work();
    });
  }
  void run_one() {
    const auto work = std::move(given_.front());
    given_.pop_front();
    is_running_ = true;
    const std::unique_ptr<bool, void (*)(bool*)> ended(&is_running_,
                                                       [](bool* runs) { *runs = false; });
    work();
  }
  void run() {
    if (is_running_) return;  // what runs asks for the queue as well
    while (!given_.empty()) run_one();
  }

 private:
  bool runs_late_, is_running_ = false;
  int replays_ = 0;
  std::deque<std::function<void()>> given_;
};

// Strict where a GPU would only be slow: a batch is released before the next one comes. What was
// released is spoilt as soon as it has been read, as the next batch may come at any time.
class HostInlet final : public Inlet {
 public:
  HostInlet(HostQueue& queue, std::int64_t bytes)
      : queue_(queue), pinned_(static_cast<std::size_t>(bytes)) {}
  void bring(const std::vector<Piece>& pieces) override {
    if (!brought_.empty()) throw std::logic_error("a batch was not released");
    while (being_read_ > 0) queue_.run_one();
    std::int64_t used = 0;
    for (const Piece& piece : pieces) used += piece.bytes;
    if (used > std::ssize(pinned_)) throw std::invalid_argument("no room in the inlet");
    std::byte* through = pinned_.data();
    for (const Piece& piece : pieces) {
      std::memcpy(through, piece.from, static_cast<std::size_t>(piece.bytes));
      std::memcpy(piece.to, through, static_cast<std::size_t>(piece.bytes));
      through += piece.bytes;
    }
    brought_ = pieces;
  }
  void release() override {
    ++being_read_;
    queue_.give([this, read = std::exchange(brought_, {})] {
      --being_read_;
      for (const Piece& piece : read) {
        std::memset(piece.to, 0x7B, static_cast<std::size_t>(piece.bytes));
      }
    });
  }

 private:
  HostQueue& queue_;
  int being_read_ = 0;  // batches that the queue may still read
  std::vector<std::byte> pinned_;
  std::vector<Piece> brought_;
};

class HostRecording final : public Recording {
 public:
  HostRecording(HostQueue& queue, std::function<void()> work)
      : queue_(queue), work_(std::move(work)) {}
  void replay() override { queue_.replay(work_); }

 private:
  HostQueue& queue_;
  std::function<void()> work_;
};

class HostMark final : public Mark {
 public:
  explicit HostMark(HostQueue& queue) : queue_(queue) {}
  void set() override {
    ++awaited_;
    queue_.give([this] {
      --awaited_;
      at_ = std::chrono::steady_clock::now();
    });
  }
  void wait() override {
    while (awaited_ > 0) queue_.run_one();
  }
  double ms_since(const Mark& earlier) const override {
    return std::chrono::duration<double, std::milli>(at_ -
                                                     static_cast<const HostMark&>(earlier).at_)
        .count();
  }

 private:
  HostQueue& queue_;
  int awaited_ = 0;
  std::chrono::steady_clock::time_point at_;
};

// The ranks of a group add up in the order of ranks; whoever comes last divides.
class HostGroup {
 public:
  explicit HostGroup(int size) : size_(size), parts_(static_cast<std::size_t>(size)) {}
  void mean(int rank, float* values, std::int64_t count) {
    std::unique_lock lock(mutex_);
    parts_[rank].assign(values, values + count);
    const std::int64_t turn = turn_;
    if (++arrived_ == size_) {
      mean_ = parts_[0];
      for (int r = 1; r < size_; ++r)
        std::transform(mean_.begin(), mean_.end(), parts_[r].begin(), mean_.begin(), std::plus<>());
      for (float& value : mean_) value /= static_cast<float>(size_);
      arrived_ = 0;
      ++turn_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return turn_ != turn; });
    // The next mean is made when all have come again, and so have taken this one.
    std::copy(mean_.begin(), mean_.end(), values);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int size_, arrived_ = 0;
  std::int64_t turn_ = 0;
  std::vector<std::vector<float>> parts_;
  std::vector<float> mean_;
};

std::shared_ptr<HostGroup> find_group(const std::string& name, int size) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<HostGroup>> groups;
  const std::lock_guard lock(mutex);
  auto group = groups[name].lock();
  if (!group) groups[name] = group = std::make_shared<HostGroup>(size);
  return group;
}

class HostCollective final : public Collective {
 public:
  HostCollective(HostQueue& queue, const std::string& name, int rank, int size)
      : queue_(queue), rank_(rank), group_(find_group(name, size)) {}
  std::string library() const override { return "host threads"; }
  void offer(float* values, std::int64_t count) override {
    offered_ = {values, static_cast<std::size_t>(count)};
  }
  void mean(float* values, std::int64_t count) override {
    if (values < offered_.data() || values + count > offered_.data() + offered_.size()) {
      throw std::logic_error("a mean outside the memory that was offered");
    }
    queue_.run();
    std::vector<float> of_all(values, values + count);
    group_->mean(rank_, of_all.data(), count);
    made_.emplace_back(values, std::move(of_all));
  }
  void join() override {  // not before it may they be read
    for (const auto& [values, of_all] : std::exchange(made_, {})) {
      std::copy(of_all.begin(), of_all.end(), values);
    }
  }

 private:
  HostQueue& queue_;
  int rank_;
  std::shared_ptr<HostGroup> group_;
  std::span<float> offered_;
  std::vector<std::pair<float*, std::vector<float>>> made_;
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(const HostDeviceOptions& options)
      : options_(options), free_bytes_(options.memory_bytes), given_(options.runs_late) {}
  bool joins_groups() const override { return options_.has_groups; }
  std::string new_group() override {
    static std::atomic<int> next{0};
    return "group " + std::to_string(next++);
  }
  std::unique_ptr<Collective> join_group(const std::string& name, int rank, int size) override {
    return std::make_unique<HostCollective>(given_, name, rank, size);
  }
  DeviceFacts facts() const override {
    return {"host loops", "host", {{"cuda", "none"}}, free_bytes_};
  }
  std::int64_t free_bytes() const override { return free_bytes_; }
  // Filled with signalling bytes where nothing says that it is zero... it is zeroed, as promised.
  std::shared_ptr<std::byte> allocate(std::int64_t bytes) override {
    if (bytes > free_bytes_) throw OutOfMemory(bytes, {free_bytes_, kGpuMemory});
    return allocate_host(bytes);
  }
  std::shared_ptr<std::byte> allocate_host(std::int64_t bytes) override {
    auto* memory =
        static_cast<std::byte*>(std::aligned_alloc(256, std::size_t(bytes + 255) / 256 * 256));
    std::memset(memory, 0, static_cast<std::size_t>(bytes));
    return {memory, [](std::byte* at) { std::free(at); }};
  }
  void upload(void* to, const void* from, std::int64_t bytes) override {
    if (bytes == 0) return;
    const auto* first = static_cast<const std::byte*>(from);
    std::vector<std::byte> values(first, first + bytes);  // the caller may change them now
    given_.give(
        [to, values = std::move(values)] { std::memcpy(to, values.data(), values.size()); });
  }
  void download(void* to, const void* from, std::int64_t bytes) override {
    fetch(to, from, bytes);
    wait();
  }
  void fetch(void* to, const void* from, std::int64_t bytes) override {
    if (bytes == 0) return;
    given_.give([=] { std::memcpy(to, from, static_cast<std::size_t>(bytes)); });
  }
  void clear(void* at, std::int64_t bytes) override {
    given_.give([=] { std::memset(at, 0, static_cast<std::size_t>(bytes)); });
  }
  void wait() override { given_.run(); }
  Queue queue() override {  // asked for by what is about to give it more
    given_.run();
    return nullptr;
  }
  const Kernels& kernels(Type type) const override { return host_kernels(type); }
  std::unique_ptr<Convolution> prepare(const ConvolutionTask& task) override {
    if (options_.refuses && options_.refuses(task)) throw NoEngine("host loops refuse");
    const auto& ms = options_.convolution_ms;
    return std::make_unique<HostConvolution>(task, ms ? ms(task) : std::nullopt);
  }
  std::unique_ptr<Product> prepare(const ProductTask& task) override {
    return std::make_unique<HostProduct>(task);
  }
  std::optional<double> kernel_ms(const std::string&,
                                  const std::function<Work()>& make_work) override {
    make_work()();
    return 1.0;  // what engines pretend is about it
  }
  std::unique_ptr<Recording> record(const std::function<void()>& work) override {
    return std::make_unique<HostRecording>(given_, work);
  }
  std::unique_ptr<Mark> make_mark() override { return std::make_unique<HostMark>(given_); }
  std::unique_ptr<Inlet> make_inlet(std::int64_t bytes) override {
    return std::make_unique<HostInlet>(given_, bytes);
  }

 private:
  HostDeviceOptions options_;
  std::int64_t free_bytes_;
  HostQueue given_;
};

}  // namespace

std::unique_ptr<Device> make_host_device(const HostDeviceOptions& options) {
  return std::make_unique<HostDevice>(options);
}

}  // namespace rackmark::worker::cuda::test
