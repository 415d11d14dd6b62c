// SPDX-License-Identifier: MIT
// The matrix products of tile programs, in plain and in dual numbers. x [rows, depth], out and grad [rows, cols]; a
// matrix begins at an offset of the weights, and its rows stand `stride` numbers apart.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dual.h"

namespace dtnn {

// The weights that a run reads, and the sums of their gradients.
template <typename Number>
struct TileWeights {
  using Values = const Number*;
  using Sums = Number*;
};
// Values and changes (null: the weights do not change) in two places, and sums of the changes of the gradients alone.
template <typename T>
struct TileWeights<Dual<T>> {
  struct Values {
    const T* value = nullptr;
    const T* change = nullptr;
  };
  using Sums = T*;
};

struct TileMatrixPlace {
  int64_t offset;
  int64_t stride;
};

template <typename Number>
class TileProducts {
 public:
  using Values = typename TileWeights<Number>::Values;
  using Sums = typename TileWeights<Number>::Sums;

  // out = the bias, in every row.
  void fill_bias(Values weights, int64_t bias, int64_t rows, int64_t cols, Number* out) const;
  // out = (out +) x times the matrix.
  void forward(const Number* x, Values weights, TileMatrixPlace matrix, int64_t rows, int64_t depth, int64_t cols,
               bool accumulate, Number* out);
  // grad_x = (grad_x +) grad times the transposed matrix, which `weights_t` holds.
  void backward(const Number* grad, Values weights_t, TileMatrixPlace matrix, int64_t rows, int64_t cols, int64_t depth,
                bool accumulate, Number* grad_x);
  // sums += x^T grad, and sums += the rows of grad.
  void add_weight_grads(const Number* x, const Number* grad, TileMatrixPlace matrix, int64_t rows, int64_t depth,
                        int64_t cols, Sums sums);
  void add_bias_grads(const Number* grad, int64_t bias, int64_t rows, int64_t cols, Sums sums) const;
};

// Products take values and changes one below the other: copies of the pairs.
template <typename T>
class TileProducts<Dual<T>> {
 public:
  using Values = typename TileWeights<Dual<T>>::Values;
  using Sums = T*;

  void fill_bias(Values weights, int64_t bias, int64_t rows, int64_t cols, Dual<T>* out) const;
  void forward(const Dual<T>* x, Values weights, TileMatrixPlace matrix, int64_t rows, int64_t depth, int64_t cols,
               bool accumulate, Dual<T>* out);
  void backward(const Dual<T>* grad, Values weights_t, TileMatrixPlace matrix, int64_t rows, int64_t cols,
                int64_t depth, bool accumulate, Dual<T>* grad_x);
  void add_weight_grads(const Dual<T>* x, const Dual<T>* grad, TileMatrixPlace matrix, int64_t rows, int64_t depth,
                        int64_t cols, T* sums);
  void add_bias_grads(const Dual<T>* grad, int64_t bias, int64_t rows, int64_t cols, T* sums) const;

 private:
  std::vector<T> left_;
  std::vector<T> right_;
};

}  // namespace dtnn
