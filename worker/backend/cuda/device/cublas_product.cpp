#include "worker/backend/cuda/device/cublas_product.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/cuda_memory.hpp"
#include "worker/backend/cuda/device/engine_trial.hpp"
#include "worker/backend/cuda/device/errors.hpp"

namespace rackmark::worker::cuda {
namespace {

constexpr int kAlgorithmsTried = 8;
constexpr std::uint32_t kOperandAlignment = 16;  // of every operand, in bytes

cudaDataType_t cublas_type(Type type) {
  switch (type) {
    case Type::kFloat:
      return CUDA_R_32F;
    case Type::kHalf:
      return CUDA_R_16F;
    case Type::kBfloat:
      return CUDA_R_16BF;
    case Type::kInteger:
      return CUDA_R_8I;
  }
  return CUDA_R_32F;
}

cudaDataType_t result_type(const ProductTask& task) {
  if (task.is_integer()) return CUDA_R_32I;
  return task.float_result ? CUDA_R_32F : cublas_type(task.type);
}

cublasComputeType_t compute_type(const ProductTask& task) {
  if (task.is_integer()) return CUBLAS_COMPUTE_32I;
  const bool tf32 = task.type == Type::kFloat && task.arithmetic == Arithmetic::kTensor;
  return tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

// A matrix as cuBLAS sees it: column major.
class Layout {
 public:
  Layout(cudaDataType_t type, std::int64_t rows, std::int64_t columns) {
    RM_CUBLAS(cublasLtMatrixLayoutCreate(&raw_, type, static_cast<std::uint64_t>(rows),
                                         static_cast<std::uint64_t>(columns), rows));
  }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  ~Layout() { cublasLtMatrixLayoutDestroy(raw_); }
  cublasLtMatrixLayout_t raw() const { return raw_; }

 private:
  cublasLtMatrixLayout_t raw_ = nullptr;
};

// c (rows x columns, row major) = a * b is, read by columns, c' = b' * a': so b comes first.
class ProductShape {
 public:
  explicit ProductShape(const ProductTask& t)
      : first_(cublas_type(t.type), t.transpose_b ? t.inner : t.columns,
               t.transpose_b ? t.columns : t.inner),
        second_(cublas_type(t.type), t.transpose_a ? t.rows : t.inner,
                t.transpose_a ? t.inner : t.rows),
        result_(result_type(t), t.columns, t.rows),
        is_integer_(t.is_integer()) {
    RM_CUBLAS(cublasLtMatmulDescCreate(&operation_, compute_type(t),
                                       is_integer_ ? CUDA_R_32I : CUDA_R_32F));
    transpose(CUBLASLT_MATMUL_DESC_TRANSA, t.transpose_b);
    transpose(CUBLASLT_MATMUL_DESC_TRANSB, t.transpose_a);
  }
  ProductShape(const ProductShape&) = delete;
  ProductShape& operator=(const ProductShape&) = delete;
  ~ProductShape() { cublasLtMatmulDescDestroy(operation_); }

  std::vector<cublasLtMatmulHeuristicResult_t> algorithms(cublasLtHandle_t handle) const;
  // Nullopt when this library does not have the algorithm.
  std::optional<cublasLtMatmulHeuristicResult_t> checked(cublasLtHandle_t handle,
                                                         const cublasLtMatmulAlgo_t& algo) const;
  void multiply(cublasLtHandle_t handle, const cublasLtMatmulHeuristicResult_t& algorithm,
                const ProductOperands& operands, void* workspace, cudaStream_t stream) const;

 private:
  void transpose(cublasLtMatmulDescAttributes_t which, bool on) {
    const cublasOperation_t operation = on ? CUBLAS_OP_T : CUBLAS_OP_N;
    RM_CUBLAS(cublasLtMatmulDescSetAttribute(operation_, which, &operation, sizeof operation));
  }
  Layout first_, second_, result_;
  bool is_integer_;
  cublasLtMatmulDesc_t operation_ = nullptr;
};

class Preference {
 public:
  Preference() {
    RM_CUBLAS(cublasLtMatmulPreferenceCreate(&raw_));
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
        static_cast<std::uint64_t>(kProductWorkspaceLimit));
    // Partial sums stay float32, and are added in an order that is always the same.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    for (const auto operand :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      set(operand, kOperandAlignment);
    }
  }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  ~Preference() { cublasLtMatmulPreferenceDestroy(raw_); }
  cublasLtMatmulPreference_t raw() const { return raw_; }

 private:
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t name, T value) {
    RM_CUBLAS(cublasLtMatmulPreferenceSetAttribute(raw_, name, &value, sizeof value));
  }
  cublasLtMatmulPreference_t raw_ = nullptr;
};

std::vector<cublasLtMatmulHeuristicResult_t> ProductShape::algorithms(
    cublasLtHandle_t handle) const {
  const Preference preference;
  std::vector<cublasLtMatmulHeuristicResult_t> found(kAlgorithmsTried);
  int count = 0;
  const auto code = cublasLtMatmulAlgoGetHeuristic(handle, operation_, first_.raw(), second_.raw(),
                                                   result_.raw(), result_.raw(), preference.raw(),
                                                   kAlgorithmsTried, found.data(), &count);
  if (code == CUBLAS_STATUS_NOT_SUPPORTED) return {};
  check_cublas(code, "cublasLtMatmulAlgoGetHeuristic");
  found.resize(static_cast<std::size_t>(count));
  std::erase_if(found, [](const auto& result) { return result.state != CUBLAS_STATUS_SUCCESS; });
  return found;
}

std::optional<cublasLtMatmulHeuristicResult_t> ProductShape::checked(
    cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algo) const {
  cublasLtMatmulHeuristicResult_t result{};
  const auto code = cublasLtMatmulAlgoCheck(handle, operation_, first_.raw(), second_.raw(),
                                            result_.raw(), result_.raw(), &algo, &result);
  if (code != CUBLAS_STATUS_SUCCESS) return std::nullopt;
  result.algo = algo;
  return result;
}

void ProductShape::multiply(cublasLtHandle_t handle,
                            const cublasLtMatmulHeuristicResult_t& algorithm,
                            const ProductOperands& operands, void* workspace,
                            cudaStream_t stream) const {
  const float one = 1, zero = 0;
  const std::int32_t integer_one = 1, integer_zero = 0;
  const void* const product_factor = is_integer_ ? static_cast<const void*>(&integer_one) : &one;
  const void* const result_factor = is_integer_ ? static_cast<const void*>(&integer_zero) : &zero;
  RM_CUBLAS(cublasLtMatmul(handle, operation_, product_factor, operands.b, first_.raw(), operands.a,
                           second_.raw(), result_factor, operands.c, result_.raw(), operands.c,
                           result_.raw(), &algorithm.algo, workspace, algorithm.workspaceSize,
                           stream));
}

std::string name_of(const cublasLtMatmulAlgo_t& algo) {
  const auto config = [&algo](cublasLtMatmulAlgoConfigAttributes_t name) {
    std::int32_t value = -1;
    cublasLtMatmulAlgoConfigGetAttribute(&algo, name, &value, sizeof value, nullptr);
    return std::to_string(value);
  };
  return "cublasLt algorithm " + config(CUBLASLT_ALGO_CONFIG_ID) + " tile " +
         config(CUBLASLT_ALGO_CONFIG_TILE_ID) + " split " + config(CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
}

class CublasProduct final : public Product {
 public:
  CublasProduct(cublasLtHandle_t handle, CudaQueue& queue, std::shared_ptr<ProductShape> shape,
                cublasLtMatmulHeuristicResult_t algorithm)
      : handle_(handle), queue_(queue), shape_(std::move(shape)), algorithm_(algorithm) {}
  std::int64_t workspace_bytes() const override {
    return static_cast<std::int64_t>(algorithm_.workspaceSize);
  }
  std::string implementation() const override { return name_of(algorithm_.algo); }
  void run(const ProductOperands& operands, void* workspace) override {
    shape_->multiply(handle_, algorithm_, operands, workspace, queue_.stream());
  }

 private:
  cublasLtHandle_t handle_;
  CudaQueue& queue_;
  std::shared_ptr<ProductShape> shape_;
  cublasLtMatmulHeuristicResult_t algorithm_;
};

// All operands of a task, of random values.
struct ProductTrial {
  ProductTrial(const ProductTask& t, cudaStream_t stream)
      : a(random_memory(t.type, t.rows * t.inner * width(t.type), stream)),
        b(random_memory(t.type, t.inner * t.columns * width(t.type), stream)),
        c(device_memory(t.result_bytes())),
        workspace(device_memory(kProductWorkspaceLimit)) {}
  std::shared_ptr<std::byte> a, b, c, workspace;
};

// An algorithm is plain numbers (cuBLAS says that it may be stored), kept as knobs 0, 1, ...
PlanEntry entry_of(const cublasLtMatmulAlgo_t& algo, double ms) {
  PlanEntry entry{.form = "product", .ms = ms};
  for (std::size_t i = 0; i < std::size(algo.data); ++i) {
    entry.knobs.emplace_back(static_cast<int>(i), static_cast<std::int64_t>(algo.data[i]));
  }
  return entry;
}
std::optional<cublasLtMatmulAlgo_t> algorithm_of(const PlanEntry& entry) {
  cublasLtMatmulAlgo_t algo{};
  if (entry.knobs.size() != std::size(algo.data)) return std::nullopt;
  for (std::size_t i = 0; i < entry.knobs.size(); ++i) {
    algo.data[i] = static_cast<std::uint64_t>(entry.knobs[i].second);
  }
  return algo;
}

struct TimedAlgorithm {
  cublasLtMatmulHeuristicResult_t algorithm{};
  std::optional<double> ms;  // none: it could not be tried
};

TimedAlgorithm fastest_algorithm(cublasLtHandle_t handle, CudaQueue& queue,
                                 const ProductShape& shape, const ProductTask& task) {
  const auto algorithms = shape.algorithms(handle);
  if (algorithms.empty()) {
    throw std::runtime_error("cuBLASLt " + library_version_text(cublasLtGetVersion()) +
                             " has no algorithm for " + task_text(task));
  }
  TimedAlgorithm best{.algorithm = algorithms.front()};
  try {
    const ProductTrial trial(task, queue.stream());
    std::vector<std::string> names;
    for (const auto& algorithm : algorithms) names.push_back(name_of(algorithm.algo));
    const auto times = trial_times(queue, task_text(task), names, [&](std::size_t i) {
      return [&, i] {
        shape.multiply(handle, algorithms[i], {trial.a.get(), trial.b.get(), trial.c.get()},
                       trial.workspace.get(), queue.stream());
      };
    });
    for (std::size_t i = 0; i < times.size(); ++i) {
      if (times[i] && (!best.ms || *times[i] < *best.ms)) best = {algorithms[i], times[i]};
    }
  } catch (const OutOfMemory&) {  // what heuristics think
  }
  return best;
}

}  // namespace

std::unique_ptr<Product> make_product(cublasLtHandle_t handle, CudaQueue& queue, PlanCache& cache,
                                      const ProductTask& task) {
  auto shape = std::make_shared<ProductShape>(task);
  if (const auto entry = cache.find(task_text(task))) {
    const auto algo = algorithm_of(*entry);
    const auto known = algo ? shape->checked(handle, *algo) : std::nullopt;
    if (known) return std::make_unique<CublasProduct>(handle, queue, std::move(shape), *known);
  }
  const auto best = fastest_algorithm(handle, queue, *shape, task);
  if (best.ms) cache.put(task_text(task), entry_of(best.algorithm.algo, *best.ms));
  return std::make_unique<CublasProduct>(handle, queue, std::move(shape), best.algorithm);
}

std::string task_text(const ProductTask& t) {
  return std::string("product ") + arithmetic_name(t.type, t.arithmetic) + " " +
         std::to_string(t.rows) + "x" + std::to_string(t.columns) + "x" + std::to_string(t.inner) +
         (t.transpose_a ? " a^t" : " a") + (t.transpose_b ? " b^t" : " b") +
         (t.float_result ? " -> float" : "");
}

}  // namespace rackmark::worker::cuda
