// Adaptive average pool whose windows differ in size or overlap, which oneDNN has not: window i of
// n over an extent of m is [floor(i*m/n), ceil((i+1)*m/n)), as PyTorch defines it. Never a hot
// layer: its outputs are a handful of pixels.
#include <cstring>

#include "worker/backend/onednn/unary_op.hpp"

namespace rackmark::worker::onednn {
namespace {

struct Window {
  int first = 0, last = 0;
};

Window share(int index, int windows, int extent) {
  return {index * extent / windows, ((index + 1) * extent + windows - 1) / windows};
}

constexpr int kWidestBlock = 16;

class AdaptivePoolOp final : public UnaryOp {
 public:
  using UnaryOp::UnaryOp;
  void plan_forward(Assembly& assembly) override {
    UnaryOp::plan_forward(assembly);
    want_picture(assembly);
  }

 private:
  std::string implementation(const Pass&) const override { return "windows of unequal size"; }

  // body(first value of the input plane, of the output pixel, window of rows, of columns)
  template <class Body>
  void visit(const Body& body) const {
    const std::int64_t planes = batch_ * blocks();
    const std::int64_t in_plane = std::int64_t{in_.height} * in_.width * block_;
    const std::int64_t out_plane = std::int64_t{out_.height} * out_.width * block_;
#pragma omp parallel for schedule(static)
    for (std::int64_t plane = 0; plane < planes; ++plane) {
      for (int h = 0; h < out_.height; ++h) {
        for (int w = 0; w < out_.width; ++w) {
          body(plane * in_plane, plane * out_plane + (h * out_.width + w) * block_,
               share(h, out_.height, in_.height), share(w, out_.width, in_.width));
        }
      }
    }
  }

  // Every pixel of a window, as its first value in the plane.
  template <class Body>
  void each_pixel(Window rows, Window columns, const Body& body) const {
    for (int h = rows.first; h < rows.last; ++h)
      for (int w = columns.first; w < columns.last; ++w)
        body((std::int64_t{h} * in_.width + w) * block_);
  }

  static float weight(Window rows, Window columns) {
    return 1.0F / static_cast<float>((rows.last - rows.first) * (columns.last - columns.first));
  }

  void compute(Pass&) override {
    by_storage(x_.storage(), [&](auto kind) { average<decltype(kind)>(); });
  }
  void propagate(Pass&) override {
    by_storage(x_.storage(), [&](auto kind) { share_gradient<decltype(kind)>(); });
  }

  template <class T>
  void average() {
    const T* x = x_.as<T>();
    T* all = y_.as<T>();
    visit([&](std::int64_t plane, std::int64_t pixel, Window rows, Window columns) {
      float sums[kWidestBlock] = {};
      each_pixel(rows, columns, [&](std::int64_t at) {
        for (int c = 0; c < block_; ++c) sums[c] += to_float(x[plane + at + c]);
      });
      for (int c = 0; c < block_; ++c) put(all[pixel + c], sums[c] * weight(rows, columns));
    });
  }

  template <class T>
  void share_gradient() {
    const T* all = dy_.as<T>();
    T* dx = dx_.as<T>();
    std::memset(dx, 0, sizeof(T) * batch_ * blocks() * block_ * in_.height * in_.width);
    visit([&](std::int64_t plane, std::int64_t pixel, Window rows, Window columns) {
      const T* dy = all + pixel;
      each_pixel(rows, columns, [&](std::int64_t at) {
        for (int c = 0; c < block_; ++c) {
          T& to = dx[plane + at + c];
          put(to, to_float(to) + to_float(dy[c]) * weight(rows, columns));
        }
      });
    });
  }
};

}  // namespace

std::unique_ptr<Op> make_adaptive_pool_op(int node) {
  return std::make_unique<AdaptivePoolOp>(node);
}

}  // namespace rackmark::worker::onednn
