// SPDX-License-Identifier: MIT
// The products of tile programs in dual numbers: values and changes go through them as rows one below the other.
#include "core/dual_tile_runner.h"

#include "core/simd_level.h"
#include "core/small_matmul.h"

namespace dtnn {
namespace {

// Room of a thread for the rows of a product, of a size that the tiles limit.
template <typename T>
T* room_for(std::vector<T>& room, int64_t size) {
  if (static_cast<int64_t>(room.size()) < size) room.resize(static_cast<size_t>(size));
  return room.data();
}
template <typename T>
T* left_room(int64_t size) {
  static thread_local std::vector<T> room;
  return room_for(room, size);
}
template <typename T>
T* right_room(int64_t size) {
  static thread_local std::vector<T> room;
  return room_for(room, size);
}

template <typename T>
DTNN_ALWAYS_INLINE void split_all(const Dual<T>* pairs, int64_t count, T* __restrict values, T* __restrict changes) {
  for (int64_t i = 0; i < count; ++i) {
    values[i] = pairs[i].value;
    changes[i] = pairs[i].change;
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void join_all(const T* __restrict values, const T* __restrict changes, int64_t count,
                                 bool accumulate, Dual<T>* __restrict out) {
  if (accumulate) {
    for (int64_t i = 0; i < count; ++i) out[i] = {out[i].value + values[i], out[i].change + changes[i]};
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = {values[i], changes[i]};
  }
}

#define DTNN_PAIR_STEPS(T)                                                                                       \
  DTNN_SIMD_VERSIONS(void, split_pairs, split_all, (const Dual<T>* pairs, int64_t count, T* values, T* changes), \
                     (pairs, count, values, changes))                                                            \
  DTNN_SIMD_VERSIONS(void, join_pairs, join_all,                                                                 \
                     (const T* values, const T* changes, int64_t count, bool accumulate, Dual<T>* out),          \
                     (values, changes, count, accumulate, out))
DTNN_PAIR_STEPS(float)
DTNN_PAIR_STEPS(double)
#undef DTNN_PAIR_STEPS

template <typename T>
void fill_bias(const DualWeights<T>& weights, int64_t bias, int64_t rows, int64_t cols, Dual<T>* out) {
  for (int64_t n = 0; n < rows; ++n, out += cols) {
    for (int64_t c = 0; c < cols; ++c) {
      out[c] = {weights.value[bias + c], weights.change == nullptr ? T(0) : weights.change[bias + c]};
    }
  }
}

// out [rows, cols] = (out +) x [rows, depth] times the matrix at `offset`, whose rows are `stride` numbers apart.
template <typename T>
void multiply_pairs(const Dual<T>* x, const DualWeights<T>& weights, int64_t offset, int64_t stride, int64_t rows,
                    int64_t depth, int64_t cols, bool accumulate, Dual<T>* out) {
  T* left = left_room<T>(2 * rows * depth);
  T* product = right_room<T>(2 * rows * cols);
  split_pairs(x, rows * depth, left, left + rows * depth);
  Prefetch nothing;
  multiply(SmallMatmul<T>{left, depth, 1, weights.value + offset, stride, product, cols, 2 * rows, cols, depth, false},
           nothing);
  T* changes = product + rows * cols;
  if (weights.change != nullptr) {
    multiply(SmallMatmul<T>{left, depth, 1, weights.change + offset, stride, changes, cols, rows, cols, depth, true},
             nothing);
  }
  join_pairs(product, changes, rows * cols, accumulate, out);
}

// sums [depth, cols] += the change of x^T grad, which is x^T grad_change + x_change^T grad: one product, with the parts
// of grad the other way round.
template <typename T>
void add_weight_changes(const Dual<T>* x, const Dual<T>* grad, int64_t rows, int64_t depth, int64_t cols,
                        int64_t stride, T* sums) {
  T* left = left_room<T>(2 * rows * depth);
  T* right = right_room<T>(2 * rows * cols);
  split_pairs(x, rows * depth, left, left + rows * depth);
  split_pairs(grad, rows * cols, right + rows * cols, right);
  Prefetch nothing;
  multiply(SmallMatmul<T>{left, 1, depth, right, cols, sums, stride, depth, cols, 2 * rows, true}, nothing);
}

size_t at(TileValueId id) { return static_cast<size_t>(id); }

}  // namespace

struct DualNodes {
  template <typename T>
  static void forward(TileRunner<Dual<T>>& runner, const TileNode& node, const TileMemory<Dual<T>>& memory,
                      int64_t rows) {
    if (node.kind != TileNodeKind::kLinear) {
      return run_node_forward(node.kind, runner.forward_arguments(node, rows));
    }
    const TileValue& value = runner.program_.values()[at(node.out)];
    const int64_t all_rows = rows * value.components;
    Dual<T>* out = runner.values_[at(node.out)];
    bool accumulate = node.bias != kNoBias;
    if (accumulate) fill_bias(memory.weights, node.bias, all_rows, value.channels, out);
    for (const LinearTerm& term : node.terms) {
      const MatrixPart& part = term.matrix;
      const int64_t stride = part.whole.cols, offset = part.whole.offset + part.first_row * stride + part.first_col;
      multiply_pairs(runner.values_[at(term.x)], memory.weights, offset, stride, all_rows, part.rows, value.channels,
                     accumulate, out);
      accumulate = true;
    }
  }

  template <typename T>
  static void backward(TileRunner<Dual<T>>& runner, const TileNode& node, const TileMemory<Dual<T>>& memory,
                       int64_t rows) {
    if (node.kind != TileNodeKind::kLinear) {
      return run_node_backward(node.kind, runner.backward_arguments(node, rows));
    }
    const TileValue& value = runner.program_.values()[at(node.out)];
    const int64_t all_rows = rows * value.components, channels = value.channels;
    const Dual<T>* grad = runner.grads_[at(node.out)];
    const bool weights = runner.program_.weights_need_grad();
    if (weights && node.bias != kNoBias) {
      T* sums = memory.grad_weights + node.bias;
      for (int64_t n = 0; n < all_rows; ++n) {
        for (int64_t c = 0; c < channels; ++c) sums[c] += grad[n * channels + c].change;
      }
    }
    for (const LinearTerm& term : node.terms) {
      const MatrixPart& part = term.matrix;
      const int64_t stride = part.whole.cols, stride_t = part.whole.rows;
      if (weights) {
        add_weight_changes(runner.values_[at(term.x)], grad, all_rows, part.rows, channels, stride,
                           memory.grad_weights + part.whole.offset + part.first_row * stride + part.first_col);
      }
      Dual<T>* grad_x = runner.grads_[at(term.x)];
      if (grad_x == nullptr || !runner.program_.values()[at(term.x)].requires_grad) continue;
      multiply_pairs(grad, memory.weights_t, part.whole.offset + part.first_col * stride_t + part.first_row, stride_t,
                     all_rows, channels, part.rows, runner.has_grad_[at(term.x)] != 0, grad_x);
      runner.has_grad_[at(term.x)] = 1;
    }
  }
};

template <>
void TileRunner<Dual<float>>::forward_node(const TileNode& node, const TileMemory<Dual<float>>& memory, int64_t rows) {
  DualNodes::forward(*this, node, memory, rows);
}
template <>
void TileRunner<Dual<double>>::forward_node(const TileNode& node, const TileMemory<Dual<double>>& memory,
                                            int64_t rows) {
  DualNodes::forward(*this, node, memory, rows);
}
template <>
void TileRunner<Dual<float>>::backward_node(const TileNode& node, const TileMemory<Dual<float>>& memory, int64_t rows) {
  DualNodes::backward(*this, node, memory, rows);
}
template <>
void TileRunner<Dual<double>>::backward_node(const TileNode& node, const TileMemory<Dual<double>>& memory,
                                             int64_t rows) {
  DualNodes::backward(*this, node, memory, rows);
}

}  // namespace dtnn
