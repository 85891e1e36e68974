// The parts below a plan: own kernels for every instruction set of this host, placing of buffers,
// grouping of nodes, memory limits.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>

#include "worker/backend/arena_plan.hpp"
#include "worker/backend/graph.hpp"
#include "worker/backend/memory_limit.hpp"
#include "worker/backend/onednn/arena.hpp"
#include "worker/backend/onednn/kernels/kernels.hpp"
#include "worker/backend/onednn/kernels/weight_gradient.hpp"
#include "worker/backend/onednn/threads.hpp"

namespace rackmark::worker::onednn {
namespace {

struct Table {
  const Kernels* kernels;
  int block;
  Storage storage;

  // How far a stored result may be from `wanted`: half of the last of bf16's 8 digits.
  double rounding(double wanted) const {
    return storage == Storage::kBfloat ? 1e-6 + std::abs(wanted) / 256 : 1e-6;
  }
};

std::vector<Table> tables() {
  std::vector<Table> all;
  for (const Storage storage : {Storage::kFloat, Storage::kBfloat})
    for (const int block : {8, 16})
      for (const auto* table : {baseline_kernels(block, storage), avx2_kernels(block, storage),
                                avx512_kernels(block, storage)})
        if (table != nullptr) all.push_back({table, block, storage});
  return all;
}

// Numbers that bf16 holds exactly, so that only what a kernel makes of them is rounded.
std::vector<float> random_values(const char* name, std::int64_t count) {
  auto values = uniform(name, count);
  for (float& value : values) {
    Bfloat exact{};
    put(exact, value);
    value = to_float(exact);
  }
  return values;
}

// Values as a kernel sees them, and back.
class Stored {
 public:
  Stored(const Table& table, const std::vector<float>& values)
      : bytes_(values.size() * 4), count_(values.size()), cells_(bytes_.data(), table.storage) {
    table.kernels->narrow(values.data(), cells_, std::ssize(values));
  }
  Stored(const Stored&) = delete;
  Stored& operator=(const Stored&) = delete;
  void* data() const { return cells_; }
  float operator[](std::size_t i) const { return cells_.value(static_cast<std::int64_t>(i)); }
  std::size_t size() const { return count_; }

 private:
  std::vector<char> bytes_;
  std::size_t count_;
  Cells cells_;
};

TEST(OnednnKernels, Bf16RoundsToNearestEvenAndKeepsWhatIsNoNumber) {
  const auto rounded = [](float x) {
    Bfloat half{};
    put(half, x);
    return to_float(half);
  };
  EXPECT_EQ(rounded(1.0F + 0x1p-8F), 1.0F);             // a tie, to the even digit
  EXPECT_EQ(rounded(1.0F + 3 * 0x1p-8F), 1 + 0x1p-6F);  // a tie, up
  EXPECT_EQ(rounded(1.0F + 0x1.02p-8F), 1 + 0x1p-7F);
  EXPECT_EQ(rounded(-0.0F), 0.0F);
  EXPECT_EQ(rounded(3.4e38F), INFINITY);
  EXPECT_EQ(rounded(-INFINITY), -INFINITY);
  for (const std::uint32_t bits : {0x7FFFFFFFU, 0xFFFFFFFFU, 0x7F800001U})
    EXPECT_TRUE(std::isnan(rounded(__builtin_bit_cast(float, bits)))) << bits;
  for (const auto& [table, block, storage] : tables()) {
    if (storage != Storage::kBfloat) continue;
    std::vector<float> x;  // every exponent, ties and odd ends, and a rest that fills no vector
    for (std::uint32_t i = 0; i < 3001; ++i)
      x.push_back(__builtin_bit_cast(float, i * 1431655U + (i % 3) * 0x8000U));
    std::vector<float> wide(x.size()), twice(x.size());
    const Stored kept({table, block, storage}, x);
    table->widen(kept.data(), wide.data(), std::ssize(x));
    table->round(x.data(), twice.data(), std::ssize(x));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto bits = [](float v) { return __builtin_bit_cast(std::uint32_t, v); };
      ASSERT_EQ(bits(wide[i]), bits(rounded(x[i]))) << table->isa << " " << bits(x[i]);
      ASSERT_EQ(bits(twice[i]), bits(rounded(x[i]))) << table->isa << " " << bits(x[i]);
    }
  }
}

constexpr std::int64_t kPixels = 259;  // more than one chunk of sums, and an odd rest

TEST(OnednnKernels, Moments) {
  for (const Table& with : tables()) {
    const auto& [table, block, storage] = with;
    SCOPED_TRACE(std::string(table->isa) + " " + std::to_string(block));
    auto values = random_values("x", kPixels * block);
    for (float& value : values) value += 100;  // a mean much larger than the spread
    const Stored x(with, values);
    const std::vector<float> shift(block, 99.5F);
    std::vector<double> sums(2 * block, -1);
    table->moments(x.data(), kPixels, shift.data(), sums.data());
    for (int c = 0; c < block; ++c) {
      double sum = 0, squares = 0;
      for (std::int64_t p = 0; p < kPixels; ++p) {
        const double d = double{x[p * block + c]} - shift[c];
        sum += d, squares += d * d;
      }
      EXPECT_NEAR(sums[c], sum, 1e-4);
      EXPECT_NEAR(sums[block + c], squares, 1e-4);
    }
  }
}

TEST(OnednnKernels, NormalizeAllForms) {
  for (const Table& with : tables()) {
    const auto& [table, block, storage] = with;
    const Stored x(with, random_values("x", kPixels * block));
    const Stored x2(with, random_values("x2", kPixels * block));
    const auto a = random_values("a", block), b = random_values("b", block);
    const auto a2 = random_values("a2", block), b2 = random_values("b2", block);
    for (const int second : {0, 1, 2}) {
      for (const bool relu : {false, true}) {
        const Stored y(with, std::vector<float>(x.size(), -7));
        NormalizePlane t{x.data(), a.data(), b.data(), nullptr, nullptr,
                         nullptr,  y.data(), kPixels,  relu};
        if (second > 0) t.x2 = x2.data();
        if (second > 1) t.a2 = a2.data(), t.b2 = b2.data();
        table->normalize(t);
        for (std::size_t i = 0; i < y.size(); ++i) {
          const std::size_t c = i % block;
          double wanted = double{a[c]} * x[i] + b[c];
          if (second == 1) wanted += x2[i];
          if (second == 2) wanted += double{a2[c]} * x2[i] + b2[c];
          if (relu) wanted = std::max(wanted, 0.0);
          ASSERT_NEAR(y[i], wanted, with.rounding(wanted))
              << table->isa << " " << second << " " << relu;
        }
      }
    }
  }
}

TEST(OnednnKernels, ReduceAllForms) {
  for (const Table& with : tables()) {
    const auto& [table, block, storage] = with;
    const std::int64_t count = kPixels * block;
    const Stored g(with, random_values("g", count)), g2(with, random_values("g2", count));
    const Stored x(with, random_values("x", count)), x2(with, random_values("x2", count));
    const Stored y(with, random_values("y", count));
    const auto a = random_values("a", block), b = random_values("b", block);
    const auto mean = random_values("m", block), mean2 = random_values("m2", block);
    for (const Mask mask : {Mask::kNone, Mask::kFromAffine, Mask::kFromOutput}) {
      for (int form = 0; form < 8; ++form) {
        const bool two = (form & 1) != 0, join = (form & 2) != 0, store = (form & 4) != 0;
        const Stored dz(with, std::vector<float>(x.size(), -7));
        std::vector<double> sums(3 * block), wanted(3 * block);
        ReducePlane t{};
        t.g = g.data(), t.x = x.data(), t.mean = mean.data(), t.y = y.data();
        t.a = a.data(), t.b = b.data(), t.sums = sums.data(), t.pixels = kPixels, t.mask = mask;
        if (two) t.g2 = g2.data();
        if (join) t.x2 = x2.data(), t.mean2 = mean2.data();
        if (store) t.dz = dz.data();
        table->reduce(t);
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t c = i % block;
          double z = g[i] + (two ? g2[i] : 0);
          if (mask == Mask::kFromAffine && double{a[c]} * x[i] + b[c] <= 0) z = 0;
          if (mask == Mask::kFromOutput && y[i] <= 0) z = 0;
          if (store) {
            ASSERT_NEAR(dz[i], z, with.rounding(z));
          }
          wanted[c] += z;
          wanted[block + c] += z * (double{x[i]} - mean[c]);
          if (join) wanted[2 * block + c] += z * (double{x2[i]} - mean2[c]);
        }
        for (int k = 0; k < (join ? 3 : 2) * block; ++k)
          ASSERT_NEAR(sums[k], wanted[k], 1e-4) << table->isa << " form " << form;
      }
    }
  }
}

TEST(OnednnKernels, GradientInPlace) {
  for (const Table& with : tables()) {
    const auto& [table, block, storage] = with;
    const std::int64_t count = kPixels * block;
    const Stored g(with, random_values("g", count)), x(with, random_values("x", count));
    const auto a = random_values("a", block), b = random_values("b", block);
    const auto p = random_values("p", block), q = random_values("q", block);
    const auto r = random_values("r", block);
    for (const bool masked : {false, true}) {
      const Stored dx(with, random_values("g", count));
      table->gradient({dx.data(), x.data(), masked ? a.data() : nullptr, b.data(), p.data(),
                       q.data(), r.data(), dx.data(), kPixels});
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t c = i % block;
        const bool kept = !masked || double{a[c]} * x[i] + b[c] > 0;
        const double wanted = (kept ? double{p[c]} * g[i] : 0) + double{q[c]} * x[i] + r[c];
        ASSERT_NEAR(dx[i], wanted, with.rounding(wanted));
      }
    }
  }
}

TEST(OnednnKernels, Sgd) {
  for (const auto& [table, block, storage] : tables()) {
    auto w = random_values("w", 37), v = random_values("v", 37);
    const auto w0 = w, v0 = v, g = random_values("g", 37);
    table->sgd({w.data(), g.data(), v.data(), 37, 0.1F, 0.9F, 0.01F});
    for (int i = 0; i < 37; ++i) {
      const double velocity = 0.9 * v0[i] + g[i] + 0.01 * w0[i];
      EXPECT_NEAR(v[i], velocity, 1e-6);
      EXPECT_NEAR(w[i], w0[i] - 0.1 * velocity, 1e-6);
    }
  }
}

TEST(OnednnArena, BuffersThatLiveTogetherDoNotOverlap) {
  ArenaPlan plan;
  std::vector<std::array<int, 3>> all;  // slot, first, last
  for (int i = 0; i < 60; ++i) {
    const int first = (i * 7) % 20, last = first + (i * 5) % 9;
    const int slot = plan.add(64 + (i * 977) % 5000, first);
    plan.use(slot, last);
    all.push_back({slot, first, last});
  }
  const int kept = plan.add(1000, 3);
  plan.keep(kept);
  all.push_back({kept, 0, 1000});
  const std::int64_t total = plan.assign();
  std::int64_t sum = 0;
  for (const auto& a : all) {
    EXPECT_EQ(plan.offset(a[0]) % 64, 0);
    EXPECT_LE(plan.offset(a[0]) + plan.bytes(a[0]), total);
    sum += plan.bytes(a[0]);
    for (const auto& b : all) {
      if (a[0] == b[0] || a[2] < b[1] || b[2] < a[1]) continue;
      EXPECT_TRUE(plan.offset(a[0]) + plan.bytes(a[0]) <= plan.offset(b[0]) ||
                  plan.offset(b[0]) + plan.bytes(b[0]) <= plan.offset(a[0]));
    }
  }
  EXPECT_LT(total, sum / 2) << "memory is shared";
}

TEST(OnednnGraph, MergesOnlyWhatNothingElseReads) {
  Net net("test", 8, 3);
  const Node a = net.conv2d(net.input(), "a", {.out = 4});
  const Node bn = net.batch_norm(a, "bn");
  const Node relu = net.relu(bn);
  const Node down = net.batch_norm(net.conv2d(relu, "d", {.out = 4}), "down");
  const Node bn2 = net.batch_norm(net.conv2d(relu, "b", {.out = 4}), "bn2");
  const Node sum = net.add(bn2, down);
  const Node out = net.relu(sum);
  const Node bn3 = net.batch_norm(net.conv2d(out, "c", {.out = 4}), "bn3");
  const Node shared = net.relu(bn3);
  const Node last = net.add(shared, bn3);  // reads bn3 too: nothing may be merged around it
  net.loss(net.linear(net.flatten(net.adaptive_average_pool(last, {1})), "fc", {3}));

  std::vector<NormGroup> groups;
  for (const Group& group : group_nodes(net, true))
    if (const auto* norm = std::get_if<NormGroup>(&group)) groups.push_back(*norm);
  ASSERT_EQ(groups.size(), 3);
  EXPECT_EQ(groups[0].norm, bn.id);
  EXPECT_TRUE(groups[0].relu);
  EXPECT_EQ(groups[0].output, relu.id);
  EXPECT_EQ(groups[1].norm, bn2.id);
  EXPECT_EQ(groups[1].second_norm, down.id);
  EXPECT_EQ(groups[1].output, out.id);
  EXPECT_EQ(groups[2].norm, bn3.id);
  EXPECT_FALSE(groups[2].relu);
  EXPECT_EQ(groups[2].output, bn3.id);
  EXPECT_EQ(group_nodes(net, false).size(), net.nodes().size() - 1);
}

class MemoryLimitFiles : public testing::Test {
 protected:
  MemoryLimitFiles() {
    char pattern[] = "/tmp/rackmark-limit-XXXXXX";
    root_ = mkdtemp(pattern);
    write("/proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n");
  }
  ~MemoryLimitFiles() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string root_;
};

TEST_F(MemoryLimitFiles, WithoutGroupsTheMachineLimits) {
  const auto limit = memory_limit(root_);
  EXPECT_EQ(limit.free_bytes, std::int64_t{8000000} * 1024);
  EXPECT_EQ(limit.set_by, "MemAvailable");
}

TEST_F(MemoryLimitFiles, TheTightestGroupAboveLimits) {
  write("/proc/self/cgroup", "0::/a/b\n");
  write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  write("/sys/fs/cgroup/a/memory.max", "1000000\n");
  write("/sys/fs/cgroup/a/memory.current", "600000\n");
  write("/sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 100000\n");
  const auto limit = memory_limit(root_);
  EXPECT_EQ(limit.free_bytes, 500000);
  EXPECT_EQ(limit.set_by, "cgroup v2");
}

TEST_F(MemoryLimitFiles, ProcessesOfAHostShareIt) {
  EXPECT_EQ(memory_limit(root_, 4).free_bytes, std::int64_t{2000000} * 1024);
  write("/proc/self/cgroup", "0::/a\n");
  write("/sys/fs/cgroup/a/memory.max", "1000000\n");
  EXPECT_EQ(memory_limit(root_, 4).free_bytes, 250000);
}

TEST_F(MemoryLimitFiles, VersionOne) {
  write("/proc/self/cgroup", "5:cpu,memory:/job\n4:pids:/job\n0::/\n");
  write("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "3000\n");
  write("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "4000\n");
  const auto limit = memory_limit(root_);
  EXPECT_EQ(limit.free_bytes, 0) << "over the limit is nothing left, not a negative number";
  EXPECT_EQ(limit.set_by, "cgroup v1");
}

#if defined(__SSE2__)
// A process that flushes them does so after every plan as well, in threads started later, too.
TEST(ComputeScope, LeavesDenormalsAsTheyWere) {
  const auto flushes = [] {
    volatile float least = std::numeric_limits<float>::min();
    return least / 2 == 0;
  };
  const auto threads_that_flush = [&] {
    int count = 0;
#pragma omp parallel num_threads(2) reduction(+ : count)
    count += flushes() ? 1 : 0;
    return count;
  };
  const unsigned before = _mm_getcsr();
  for (const bool always : {true, false}) {
    _mm_setcsr(always ? before | 0x8040U : before & ~0x8040U);
    {
      const ComputeScope scope(2);
      EXPECT_EQ(threads_that_flush(), 2);
    }
    EXPECT_EQ(threads_that_flush(), always ? 2 : 0);
    bool started_later = !always;
    std::thread([&] { started_later = flushes(); }).join();
    EXPECT_EQ(started_later, always);
  }
  _mm_setcsr(before);
}
#endif

// Against sums one by one, on any host with AVX2: plans use it where pictures lie in blocks of 8.
TEST(WeightGradient, SumsLikePlainLoops) {
  if (!has_weight_gradient()) GTEST_SKIP() << "this host has no AVX2";
  constexpr int kImages = 2, kHeight = 9, kWide = 13, kBlock = 8;
  for (const auto& [kernel_h, kernel_w, stride, blocks] : std::vector<std::array<int, 4>>{
           {3, 3, 1, 2}, {3, 3, 2, 1}, {1, 7, 1, 2}, {7, 1, 1, 2}, {5, 5, 2, 2}, {2, 2, 1, 1}}) {
    SCOPED_TRACE(std::to_string(kernel_h) + "x" + std::to_string(kernel_w));
    const int pad_h = kernel_h / 2, height = (kHeight + 2 * pad_h - kernel_h) / stride + 1;
    const int width = (kWide - kernel_w) / stride + 1;
    const auto values = [](int count) {
      std::vector<float> v(static_cast<std::size_t>(count));
      for (std::size_t i = 0; i < v.size(); ++i)
        v[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 64;
      return v;
    };
    const auto x = values(kImages * kHeight * kWide * kBlock);
    const auto dy = values(kImages * blocks * height * width * kBlock);
    const int taps = kernel_h * kernel_w * kBlock * kBlock, plane = height * width * kBlock;
    std::vector<float> dw(static_cast<std::size_t>(blocks * taps), 1.0F);
    add_weight_gradient({.x = x.data(),
                         .x_image = kHeight * kWide * kBlock,
                         .dy = dy.data(),
                         .dy_image = blocks * plane,
                         .dy_block = plane,
                         .dw = dw.data(),
                         .dw_block = taps,
                         .output_blocks = blocks,
                         .images = kImages,
                         .x_height = kHeight,
                         .x_width = kWide,
                         .first_row = 1,
                         .last_row = height,
                         .dy_width = width,
                         .kernel_h = kernel_h,
                         .kernel_w = kernel_w,
                         .stride = stride,
                         .pad_h = pad_h});
    const auto sum_of = [&, kw = kernel_w, s = stride, b = blocks](int block, int tap, int in,
                                                                   int out) {
      double sum = 1;  // what was there
      for (int n = 0; n < kImages; ++n)
        for (int h = 1; h < height; ++h)
          for (int w = 0; w < width; ++w) {
            const int row = h * s - pad_h + tap / kw, column = w * s + tap % kw;
            if (row < 0 || row >= kHeight) continue;
            sum += double{x[static_cast<std::size_t>(
                       ((n * kHeight + row) * kWide + column) * kBlock + in)]} *
                   dy[static_cast<std::size_t>((n * b + block) * plane + (h * width + w) * kBlock +
                                               out)];
          }
      return sum;
    };
    for (int i = 0; i < blocks * taps; ++i)
      ASSERT_NEAR(dw[static_cast<std::size_t>(i)],
                  sum_of(i / taps, i % taps / (kBlock * kBlock), i % (kBlock * kBlock) / kBlock,
                         i % kBlock),
                  1e-3)
          << i;
  }
}

}  // namespace
}  // namespace rackmark::worker::onednn
