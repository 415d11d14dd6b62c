// SPDX-License-Identifier: MIT
#include "core/tile_products.h"

#include "core/small_matmul.h"
#include "core/tile_nodes.h"

namespace dtnn {
namespace {

template <typename T>
T* room_for(std::vector<T>& room, int64_t size) {
  if (static_cast<int64_t>(room.size()) < size) room.resize(static_cast<size_t>(size));
  return room.data();
}

// Values and changes of `count` pairs in two places.
template <typename T>
void split_pairs(const Dual<T>* pairs, int64_t count, T* __restrict values, T* __restrict changes) {
  for (int64_t i = 0; i < count; ++i) {
    values[i] = pairs[i].value;
    changes[i] = pairs[i].change;
  }
}

template <typename T>
void join_pairs(const T* __restrict values, const T* __restrict changes, int64_t count, bool accumulate, Dual<T>* out) {
  for (int64_t i = 0; i < count; ++i) {
    const Dual<T> pair{values[i], changes[i]};
    out[i] = accumulate ? out[i] + pair : pair;
  }
}

}  // namespace

template <typename T>
void TileProducts<T>::fill_bias(Values weights, int64_t bias, int64_t rows, int64_t cols, T* out) const {
  fill_rows_with(weights + bias, rows, cols, out);
}

template <typename T>
void TileProducts<T>::forward(const T* x, Values weights, TileMatrixPlace matrix, int64_t rows, int64_t depth,
                              int64_t cols, bool accumulate, T* out) {
  if (matrix.stride == 1) return add_dots(x, weights + matrix.offset, rows, depth, accumulate, out);
  Prefetch ahead;
  multiply(SmallMatmul<T>{x, depth, 1, weights + matrix.offset, matrix.stride, out, cols, rows, cols, depth, accumulate},
           ahead);
}

template <typename T>
void TileProducts<T>::backward(const T* grad, Values weights_t, TileMatrixPlace matrix, int64_t rows, int64_t cols,
                               int64_t depth, bool accumulate, T* grad_x) {
  Prefetch ahead;
  multiply(SmallMatmul<T>{grad, cols, 1, weights_t + matrix.offset, matrix.stride, grad_x, depth, rows, depth, cols,
                          accumulate},
           ahead);
}

template <typename T>
void TileProducts<T>::add_weight_grads(const T* x, const T* grad, TileMatrixPlace matrix, int64_t rows, int64_t depth,
                                       int64_t cols, Sums sums) {
  if (matrix.stride == 1) return add_scaled_rows(x, grad, rows, depth, sums + matrix.offset);
  Prefetch ahead;
  multiply(SmallMatmul<T>{x, 1, depth, grad, cols, sums + matrix.offset, matrix.stride, depth, cols, rows, true}, ahead);
}

template <typename T>
void TileProducts<T>::add_bias_grads(const T* grad, int64_t bias, int64_t rows, int64_t cols, Sums sums) const {
  add_column_sums(grad, rows, cols, sums + bias);
}

template <typename T>
void TileProducts<Dual<T>>::fill_bias(Values weights, int64_t bias, int64_t rows, int64_t cols, Dual<T>* out) const {
  for (int64_t n = 0; n < rows; ++n, out += cols) {
    for (int64_t c = 0; c < cols; ++c) {
      out[c] = {weights.value[bias + c], weights.change == nullptr ? T(0) : weights.change[bias + c]};
    }
  }
}

template <typename T>
void TileProducts<Dual<T>>::forward(const Dual<T>* x, Values weights, TileMatrixPlace matrix, int64_t rows,
                                    int64_t depth, int64_t cols, bool accumulate, Dual<T>* out) {
  T* left = room_for(left_, 2 * rows * depth);
  T* product = room_for(right_, 2 * rows * cols);
  split_pairs(x, rows * depth, left, left + rows * depth);
  Prefetch ahead;
  multiply(SmallMatmul<T>{left, depth, 1, weights.value + matrix.offset, matrix.stride, product, cols, 2 * rows, cols,
                          depth, false},
           ahead);
  if (weights.change != nullptr) {
    multiply(SmallMatmul<T>{left, depth, 1, weights.change + matrix.offset, matrix.stride, product + rows * cols, cols,
                            rows, cols, depth, true},
             ahead);
  }
  join_pairs(product, product + rows * cols, rows * cols, accumulate, out);
}

template <typename T>
void TileProducts<Dual<T>>::backward(const Dual<T>* grad, Values weights_t, TileMatrixPlace matrix, int64_t rows,
                                     int64_t cols, int64_t depth, bool accumulate, Dual<T>* grad_x) {
  forward(grad, weights_t, matrix, rows, cols, depth, accumulate, grad_x);
}

template <typename T>
void TileProducts<Dual<T>>::add_weight_grads(const Dual<T>* x, const Dual<T>* grad, TileMatrixPlace matrix,
                                             int64_t rows, int64_t depth, int64_t cols, T* sums) {
  // x^T grad changes by x^T grad_change + x_change^T grad: one product, with the parts of grad the other way round.
  T* left = room_for(left_, 2 * rows * depth);
  T* right = room_for(right_, 2 * rows * cols);
  split_pairs(x, rows * depth, left, left + rows * depth);
  split_pairs(grad, rows * cols, right + rows * cols, right);
  Prefetch ahead;
  multiply(SmallMatmul<T>{left, 1, depth, right, cols, sums + matrix.offset, matrix.stride, depth, cols, 2 * rows, true},
           ahead);
}

template <typename T>
void TileProducts<Dual<T>>::add_bias_grads(const Dual<T>* grad, int64_t bias, int64_t rows, int64_t cols,
                                           T* sums) const {
  for (int64_t n = 0; n < rows; ++n, grad += cols) {
    for (int64_t c = 0; c < cols; ++c) sums[bias + c] += grad[c].change;
  }
}

template class TileProducts<float>;
template class TileProducts<double>;
template class TileProducts<Dual<float>>;
template class TileProducts<Dual<double>>;

}  // namespace dtnn
