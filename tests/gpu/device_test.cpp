// The device on a real GPU against the one that computes on the host: convolutions in every form,
// products, recordings, memory. Skipped where there is no GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "asked_convolutions.hpp"
#include "tests/worker/cuda/host_device.hpp"
#include "tests/worker/input/jpeg_writer.hpp"
#include "tests/worker/input/whole_decoder.hpp"
#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/ceilings.hpp"
#include "worker/backend/cuda/device/convolution_graph.hpp"
#include "worker/backend/cuda/device/cublas_product.hpp"
#include "worker/backend/cuda/device/nvjpeg_decoder.hpp"

namespace rackmark::worker::cuda {
namespace {

namespace fs = std::filesystem;
using Memory = std::shared_ptr<std::byte>;

std::vector<float> draws(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(engine() / 2147483648.0 - 1);
  return values;
}

// How far sums of `terms` products may differ when they are made in another order, and stored.
double tolerance_of(const ConvolutionKind& kind, double terms) {
  const double size = std::sqrt(terms);
  if (kind.type == Type::kBfloat) return 0.02 * size;
  if (kind.type == Type::kHalf) return 0.003 * size;
  return (kind.arithmetic == Arithmetic::kTensor ? 2e-3 : 2e-6) * size;
}

// Values on a device, written and read as floats.
class Values {
 public:
  // Draws between -1 and 1 times `factor`; integers between -128 and 127 unless it is given.
  Values(Device& device, Type type, std::int64_t count, unsigned seed, float factor = 0)
      : device_(device), type_(type), count_(count), memory_(device.allocate(count * width(type))) {
    auto values = draws(static_cast<std::size_t>(count), seed);
    if (factor == 0) factor = type == Type::kInteger ? 127.0F : 1.0F;
    for (float& value : values) value *= factor;
    std::vector<std::byte> stored(static_cast<std::size_t>(count * width(type)));
    if (type == Type::kFloat) {
      std::memcpy(stored.data(), values.data(), stored.size());
    } else {
      host_kernels(type).narrow(nullptr, {values.data(), stored.data(), count});
    }
    device.upload(memory_.get(), stored.data(), count * width(type));
    device.wait();
  }
  void* data() const { return memory_.get(); }
  std::vector<std::byte> bits() const {
    std::vector<std::byte> stored(static_cast<std::size_t>(count_ * width(type_)));
    device_.download(stored.data(), memory_.get(), count_ * width(type_));
    return stored;
  }
  std::vector<float> read() const {
    const auto stored = bits();
    std::vector<float> values(static_cast<std::size_t>(count_));
    if (type_ == Type::kFloat) {
      std::memcpy(values.data(), stored.data(), stored.size());
    } else {
      host_kernels(type_).widen(nullptr, {stored.data(), values.data(), count_});
    }
    return values;
  }

 private:
  Device& device_;
  Type type_;
  std::int64_t count_;
  Memory memory_;
};

// As others leave it.
Memory used_memory(Device& device, std::int64_t bytes) {
  auto memory = device.allocate(bytes);
  const std::vector<std::byte> used(static_cast<std::size_t>(bytes), std::byte{0xFF});
  device.upload(memory.get(), used.data(), bytes);
  device.wait();
  return memory;
}

struct Outcome {
  std::vector<float> values;
  std::vector<std::byte> bits;
  std::string implementation;
  std::vector<float> sums;  // where the task makes some
};

// The batch norm before a convolution.
class Norm {
 public:
  Norm(Device& device, const ConvolutionTask& t, std::int64_t x_count)
      : channels_(t.channels),
        x_(device, t.type, x_count, 12),
        mean_(device, Type::kFloat, t.channels, 13, 0.2F),
        inverse_deviation_(device, Type::kFloat, t.channels, 14, 1.5F),
        weight_(device, Type::kFloat, t.channels, 15),
        bias_(device, Type::kFloat, t.channels, 16, 0.3F),
        sums_(device, Type::kFloat, std::int64_t{NormOperands::kSums} * t.channels, 17) {}
  NormOperands operands() const {
    const auto floats = [](const Values& values) { return static_cast<float*>(values.data()); };
    return {x_.data(),       floats(mean_), floats(inverse_deviation_),
            floats(weight_), floats(bias_), floats(sums_)};
  }
  std::vector<float> sums() const {  // ours, without the library's own
    auto all = sums_.read();
    all.resize(2 * static_cast<std::size_t>(channels_));
    return all;
  }

 private:
  int channels_;
  Values x_, mean_, inverse_deviation_, weight_, bias_, sums_;
};

// Sums of a hundred products of integers stay between -128 and 127, or pass it now and then.
constexpr float kScaleOfIntegers = 2e-3F;

// The bias also in the stored type: draws of equal seeds are the same values.
Outcome run(Device& device, const ConvolutionTask& t, bool narrow_bias_at_hand = false) {
  const std::int64_t x_count = std::int64_t{t.images} * t.height * t.width * t.x_stride,
                     y_pixels = std::int64_t{t.images} * t.out_height() * t.out_width(),
                     y_count = y_pixels * t.y_stride,
                     w_count = std::int64_t{t.out} * t.kernel_h * t.kernel_w * t.channels;
  const Values x(device, t.type, x_count, 1), w(device, t.type, w_count, 2),
      y(device, t.stored_y(), y_count, 3),
      residual(device, t.stored_residual(),
               y_pixels * std::max(t.stored_residual_stride(), t.y_stride), 4),
      bias(device, Type::kFloat, t.out, 5), narrow_bias(device, t.type, t.out, 5),
      scale(device, Type::kFloat, t.out, 7, kScaleOfIntegers),
      residual_scale(device, Type::kFloat, 1, 8), gradient(device, Type::kFloat, w_count, 6),
      sums(device, Type::kFloat, std::int64_t{2} * t.out, 9),
      x_scale(device, t.type, t.channels, 10), x_shift(device, t.type, t.channels, 11);
  const Norm norm(device, t, x_count);
  const auto convolution = device.prepare(t);
  const auto workspace = used_memory(device, convolution->workspace_bytes());
  convolution->run({.x = x.data(),
                    .w = w.data(),
                    .y = y.data(),
                    .bias = t.bias ? static_cast<const float*>(bias.data()) : nullptr,
                    .scale = static_cast<const float*>(scale.data()),
                    .residual_scale = static_cast<const float*>(residual_scale.data()),
                    .narrow_bias = narrow_bias_at_hand ? narrow_bias.data() : nullptr,
                    .residual = t.residual ? residual.data() : nullptr,
                    .gradient = static_cast<float*>(gradient.data()),
                    .sums = t.statistics ? static_cast<float*>(sums.data()) : nullptr,
                    .x_scale = t.normed ? x_scale.data() : nullptr,
                    .x_shift = t.normed ? x_shift.data() : nullptr,
                    .norm = t.norm_sums ? norm.operands() : NormOperands{}},
                   workspace.get());
  const Values& result = t.pass == ConvolutionPass::kForward        ? y
                         : t.pass == ConvolutionPass::kBackwardData ? x
                                                                    : gradient;
  Outcome outcome{result.read(), result.bits(), convolution->implementation(), {}};
  if (t.statistics) outcome.sums = sums.read();
  if (t.norm_sums) outcome.sums = norm.sums();
  return outcome;
}

double worst_difference(const Outcome& a, const Outcome& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    worst = std::max<double>(worst, std::abs(a.values[i] - b.values[i]));
  }
  return worst;
}

double mean_difference(const Outcome& a, const Outcome& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) sum += std::abs(a.values[i] - b.values[i]);
  return sum / static_cast<double>(a.values.size());
}

double terms_of(const ConvolutionTask& t) {
  const double window = t.kernel_h * t.kernel_w;
  switch (t.pass) {
    case ConvolutionPass::kForward:
      return window * t.channels;
    case ConvolutionPass::kBackwardData:
      return window * t.out;
    case ConvolutionPass::kBackwardWeights:
      break;
  }
  return static_cast<double>(t.images) * t.out_height() * t.out_width();
}

class CudaDeviceTest : public ::testing::TestWithParam<ConvolutionKind> {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_cuda_device(); !why.empty()) GTEST_SKIP() << why;
    std::string name = (fs::temp_directory_path() / "cuda-device-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    setenv("RACKMARK_PLAN_CACHE", folder_.c_str(), 1);
    gpu_ = open_cuda_device();
  }
  void TearDown() override {
    gpu_.reset();
    if (!folder_.empty()) fs::remove_all(folder_);
  }
  ConvolutionTask task(ConvolutionPass pass) const {
    return {.pass = pass,
            .type = GetParam().type,
            .arithmetic = GetParam().arithmetic,
            .images = 2,
            .channels = 16,
            .height = 15,
            .width = 13,
            .out = 24,
            .kernel_h = 3,
            .kernel_w = 3,
            .stride = 1,
            .pad_h = 1,
            .pad_w = 1,
            .x_stride = 16,
            .y_stride = 24};
  }
  void expect_as_on_the_host(const ConvolutionTask& t) {
    const Outcome ours = run(*gpu_, t), truth = run(*host_, t);
    ASSERT_EQ(ours.values.size(), truth.values.size());
    const double tolerance = tolerance_of(GetParam(), terms_of(t));
    EXPECT_LE(worst_difference(ours, truth), tolerance)
        << task_text(t) << " by " << ours.implementation;
    expect_like_sums(t, ours.sums, truth.sums);
    const Outcome again = run(*gpu_, t);
    EXPECT_EQ(again.bits, ours.bits) << task_text(t) << ": not the same bits twice";
    EXPECT_EQ(again.sums, ours.sums) << task_text(t) << ": not the same sums twice";
    if (!t.bias || t.type == Type::kFloat) return;
    EXPECT_LE(worst_difference(run(*gpu_, t, true), truth), tolerance)
        << task_text(t) << " with the narrow bias at hand";
  }

  // Sums over pixels of what was compared before, or of its squares, as far as their size goes.
  void expect_like_sums(const ConvolutionTask& t, const std::vector<float>& ours,
                        const std::vector<float>& truth) {
    ASSERT_EQ(ours.size(), truth.size());
    const std::size_t channels = truth.size() / 2;
    for (const std::size_t row : {0, 1}) {
      double size = 0;
      for (std::size_t c = 0; c < channels; ++c) {
        size = std::max<double>(size, std::abs(truth[row * channels + c]));
      }
      for (std::size_t c = 0; c < channels; ++c) {
        EXPECT_NEAR(ours[row * channels + c], truth[row * channels + c], 0.01 * size)
            << task_text(t) << " sum " << row << " of channel " << c;
      }
    }
  }

  fs::path folder_;
  std::unique_ptr<Device> gpu_, host_ = test::make_host_device();
};

TEST_P(CudaDeviceTest, ConvolutionsAreThoseOfTheHost) {
  for (const auto pass : {ConvolutionPass::kForward, ConvolutionPass::kBackwardData,
                          ConvolutionPass::kBackwardWeights}) {
    for (const int stride : {1, 2}) {
      ConvolutionTask t = task(pass);
      t.stride = stride;
      expect_as_on_the_host(t);
      t.y_stride = 40;  // inside a concat
      expect_as_on_the_host(t);
      t.y_stride = t.out;
      t.kernel_h = t.kernel_w = 1;
      t.pad_h = t.pad_w = 0;
      expect_as_on_the_host(t);
    }
  }
}

TEST_P(CudaDeviceTest, EpiloguesAndSumsAreThoseOfTheHost) {
  for (const int bits : {1, 2, 3, 4, 5, 6, 7}) {
    ConvolutionTask t = task(ConvolutionPass::kForward);
    t.bias = bits & 1;
    t.relu = bits & 2;
    t.residual = bits & 4;
    expect_as_on_the_host(t);
  }
  ConvolutionTask data = task(ConvolutionPass::kBackwardData);
  data.accumulate = true;
  expect_as_on_the_host(data);
  data.x_stride = 48;
  expect_as_on_the_host(data);
}

TEST_P(CudaDeviceTest, WorkOfBatchNormsIsThatOfTheHost) {
  if (GetParam().type != Type::kHalf) return;  // engines do so in fp16 alone
  for (const int kernel : {1, 3}) {
    for (const int stride : {1, 2}) {
      ConvolutionTask t = task(ConvolutionPass::kForward);
      t.kernel_h = t.kernel_w = kernel;
      t.pad_h = t.pad_w = kernel / 2;
      t.stride = stride;
      t.statistics = true;
      expect_as_on_the_host(t);
      t.normed = true;
      expect_as_on_the_host(t);
      t.statistics = false;
      t.pass = ConvolutionPass::kBackwardWeights;
      expect_as_on_the_host(t);
      t.normed = false;
      t.norm_sums = true;
      t.pass = ConvolutionPass::kBackwardData;
      expect_as_on_the_host(t);
    }
  }
}

TEST_P(CudaDeviceTest, IntegersAreThoseOfTheHost) {
  if (GetParam().type != Type::kHalf) return;  // beside 16-bit values of this kind alone
  for (const bool residual : {false, true}) {
    for (const Type other : {Type::kInteger, Type::kHalf}) {
      for (const int y_stride : {24, 48}) {
        ConvolutionTask t = task(ConvolutionPass::kForward);
        t.type = Type::kInteger;
        t.bias = t.relu = true;
        t.residual = residual;
        t.residual_type = other;
        t.residual_stride = 32;
        t.y_stride = y_stride;
        for (const Type y_type : {Type::kInteger, Type::kHalf}) {
          t.y_type = y_type;
          const Outcome ours = run(*gpu_, t), truth = run(*host_, t);
          // One unit where a sum lies half way; 16 bits keep 11 of up to 2^10.
          const double tolerance = y_type == Type::kInteger ? 1 : 0.51;
          EXPECT_LE(worst_difference(ours, truth), tolerance)
              << task_text(t) << " by " << ours.implementation;
          EXPECT_LE(mean_difference(ours, truth), 0.02) << task_text(t) << ": rounds otherwise";
          const Outcome again = run(*gpu_, t);
          EXPECT_EQ(again.bits, ours.bits) << task_text(t) << ": not the same bits twice";
          EXPECT_EQ(again.sums, ours.sums) << task_text(t) << ": not the same sums twice";
        }
      }
    }
  }
}

TEST_P(CudaDeviceTest, ProductsAreThoseOfTheHost) {
  const auto& kind = GetParam();
  for (const int bits : {0, 1, 2, 3, 4, 7}) {
    const ProductTask t{.type = kind.type,
                        .arithmetic = kind.arithmetic,
                        .rows = 24,
                        .columns = 40,
                        .inner = 72,
                        .transpose_a = (bits & 1) != 0,
                        .transpose_b = (bits & 2) != 0,
                        .float_result = (bits & 4) != 0};
    const auto result = [&](Device& device) {
      const Values a(device, t.type, t.rows * t.inner, 1),
          b(device, t.type, t.inner * t.columns, 2),
          c(device, t.float_result ? Type::kFloat : t.type, t.rows * t.columns, 3);
      const auto product = device.prepare(t);
      const auto workspace = device.allocate(product->workspace_bytes());
      product->run({.a = a.data(), .b = b.data(), .c = c.data()}, workspace.get());
      return c.read();
    };
    const auto ours = result(*gpu_), truth = result(*host_);
    for (std::size_t i = 0; i < ours.size(); ++i) {
      ASSERT_NEAR(ours[i], truth[i], tolerance_of(kind, static_cast<double>(t.inner)))
          << task_text(t);
    }
  }
}

TEST_P(CudaDeviceTest, ProductsOfIntegersAreThoseOfTheHost) {
  const ProductTask t{
      .type = Type::kInteger, .rows = 32, .columns = 48, .inner = 64, .transpose_b = true};
  const auto result = [&](Device& device) {
    const Values a(device, t.type, t.rows * t.inner, 1), b(device, t.type, t.inner * t.columns, 2);
    const auto c = device.allocate(t.result_bytes());
    const auto product = device.prepare(t);
    const auto workspace = device.allocate(product->workspace_bytes());
    product->run({.a = a.data(), .b = b.data(), .c = c.get()}, workspace.get());
    std::vector<std::int32_t> sums(static_cast<std::size_t>(t.rows * t.columns));
    device.download(sums.data(), c.get(), t.result_bytes());
    return sums;
  };
  EXPECT_EQ(result(*gpu_), result(*host_));
}

TEST_P(CudaDeviceTest, RecordedWorkRunsAgain) {
  const Values x(*gpu_, Type::kFloat, 64, 1);
  const Matrix matrix{.data = x.data(), .rows = 1, .channels = 64, .stride = 64};
  const auto before = x.read();
  const auto recording = gpu_->record([&] {
    gpu_->kernels(Type::kFloat).copy(gpu_->queue(), {.from = matrix, .to = matrix, .factor = 2});
  });
  EXPECT_EQ(x.read(), before);
  const auto begin = gpu_->make_mark(), end = gpu_->make_mark();
  begin->set();
  recording->replay();
  recording->replay();
  end->set();
  end->wait();
  EXPECT_GT(end->ms_since(*begin), 0);
  EXPECT_FLOAT_EQ(x.read()[7], 4 * before[7]);
  EXPECT_THROW(gpu_->record([] { throw std::runtime_error("work"); }), std::runtime_error);
  EXPECT_NO_THROW(gpu_->record([] {})->replay());
}

// Each batch is read as it was brought, and none waits for the slow work behind the one before it.
TEST_P(CudaDeviceTest, BatchesArriveBesideTheQueue) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t kRows = 1 << 20, kBatch = 6 << 20, kSteps = 3;  // more than one block
  const Memory slow = gpu_->allocate(kRows * 64 * 4), place = gpu_->allocate(kBatch),
               read = gpu_->allocate(kSteps * kBatch);
  const Kernels& kernels = gpu_->kernels(Type::kFloat);
  const auto rest_of_step = gpu_->record([&] {
    const Matrix all{.data = slow.get(), .rows = kRows, .channels = 64, .stride = 64};
    for (int i = 0; i < 500; ++i) kernels.copy(gpu_->queue(), {.from = all, .to = all});
  });
  const auto matrix = [](std::byte* at) {
    return Matrix{.data = at, .rows = kBatch / 256, .channels = 64, .stride = 64};
  };
  const auto inlet = gpu_->make_inlet(kBatch);
  rest_of_step->replay();
  gpu_->wait();
  std::vector<std::vector<float>> batches;
  for (unsigned step = 0; step < kSteps; ++step) batches.push_back(draws(kBatch / 4, step));
  const auto begin = Clock::now();
  for (std::size_t step = 0; step < kSteps; ++step) {
    const auto* from = reinterpret_cast<const std::byte*>(batches[step].data());
    inlet->bring({{place.get(), from, 400}, {place.get() + 400, from + 400, kBatch - 400}});
    kernels.copy(gpu_->queue(),
                 {.from = matrix(place.get()), .to = matrix(read.get() + step * kBatch)});
    inlet->release();
    if (step + 1 < kSteps) rest_of_step->replay();
  }
  const auto given = Clock::now();
  gpu_->wait();
  EXPECT_LT(given - begin, Clock::now() - given) << "the host waited for the queue";
  std::vector<float> got(kBatch / 4);
  for (std::size_t step = 0; step < kSteps; ++step) {
    gpu_->download(got.data(), read.get() + step * kBatch, kBatch);
    EXPECT_TRUE(got == batches[step]) << step;
  }
  EXPECT_THROW(inlet->bring({{place.get(), got.data(), kBatch}, {read.get(), got.data(), 1}}),
               std::invalid_argument);
}

TEST_P(CudaDeviceTest, ChoicesAreRememberedAndMemoryIsCounted) {
  const ConvolutionTask t = task(ConvolutionPass::kForward);
  const std::string chosen = gpu_->prepare(t)->implementation();
  const std::int64_t free = gpu_->free_bytes(), wanted = gpu_->facts().memory_bytes * 2;
  try {
    gpu_->allocate(wanted);
    FAIL() << "twice the memory was there";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.bytes_wanted, wanted);
    EXPECT_GT(error.bytes_free, 0);
    EXPECT_LE(error.bytes_free, free + (std::int64_t{1} << 30));
  }
  gpu_ = open_cuda_device();
  EXPECT_EQ(gpu_->prepare(t)->implementation(), chosen);
  EXPECT_FALSE(fs::is_empty(folder_));
}

TEST_P(CudaDeviceTest, AGroupOfOneKeepsItsValues) {
  if (GetParam().type != Type::kFloat) return;  // gradients are float32 in every precision
  constexpr std::int64_t kCount = 100'003;
  ASSERT_TRUE(gpu_->joins_groups()) << "no NCCL here";
  const Values values(*gpu_, Type::kFloat, kCount, 1);
  const auto group = gpu_->join_group(gpu_->new_group(), 0, 1);
  group->offer(static_cast<float*>(values.data()), kCount);
  const auto before = values.bits();
  group->mean(static_cast<float*>(values.data()), kCount);
  group->join();
  EXPECT_TRUE(values.bits() == before) << group->library();
}

// Decoders round differently, by a level or two.
TEST_P(CudaDeviceTest, NvjpegDecodesWhatLibjpegDecodes) {
  if (GetParam().type != Type::kHalf) return;  // once is enough
  std::shared_ptr<FileDecoder> nvjpeg;
  try {
    nvjpeg = open_nvjpeg();
  } catch (const std::runtime_error& error) {
    std::printf("%s\n", error.what());
    return;
  }
  const auto paint = [](int x, int y, int c) {
    return static_cast<std::uint8_t>(x / 2 + y / 3 + 40 * c);
  };
  testing::WholeDecoder libjpeg;
  for (const int channels : {1, 3, 4}) {
    for (const bool progressive : {false, true}) {
      const auto file = testing::encode_jpeg(200, 150, channels, paint, progressive);
      std::vector<std::uint8_t> ours, truth;
      const auto kept_in = [](std::vector<std::uint8_t>& pixels) {
        return [&](const WholePicture& picture) {
          EXPECT_EQ(picture.width, 200);
          EXPECT_EQ(picture.height, 150);
          pixels.assign(picture.rgb.begin(), picture.rgb.end());
        };
      };
      const bool decoded = nvjpeg->decode(file, kept_in(ours));
      EXPECT_EQ(decoded, libjpeg.decode(file, kept_in(truth))) << channels << progressive;
      ASSERT_EQ(ours.size(), truth.size());
      double difference = 0;
      for (std::size_t i = 0; i < ours.size(); ++i) difference += std::abs(ours[i] - truth[i]);
      EXPECT_LE(difference, 2.0 * static_cast<double>(ours.size())) << channels << progressive;
    }
  }
  auto holed = testing::encode_jpeg(200, 150, 3, paint);
  const auto middle = holed.begin() + static_cast<std::ptrdiff_t>(holed.size() / 2);
  holed.erase(middle, middle + static_cast<std::ptrdiff_t>(holed.size() / 4));
  EXPECT_FALSE(nvjpeg->decode(holed, [](const WholePicture&) { FAIL() << "decoded a hole"; }));
  const std::vector<std::uint8_t> no_picture(1000, 0x41);
  EXPECT_FALSE(nvjpeg->decode(no_picture, [](const WholePicture&) { FAIL(); }));
}

TEST_P(CudaDeviceTest, CeilingsAreMeasured) {
  const auto rate = fastest_product(*gpu_, GetParam().type, GetParam().arithmetic, 0.2);
  EXPECT_GT(rate.gflops.best, 1000) << rate.what << " " << rate.implementation;
  EXPECT_GE(rate.gflops.best, rate.gflops.median);
  const auto integers = fastest_product(*gpu_, Type::kInteger, Arithmetic::kTensor, 0.2);
  EXPECT_GT(integers.gflops.best, 1000) << integers.what << " " << integers.implementation;
  EXPECT_GT(copy_rate(*gpu_, std::int64_t{256} << 20, 0.1).median, 50);
}

INSTANTIATE_TEST_SUITE_P(Kinds, CudaDeviceTest, ::testing::ValuesIn(kConvolutionKinds),
                         [](const auto& kind) { return std::string(kind.param.name); });

}  // namespace
}  // namespace rackmark::worker::cuda
