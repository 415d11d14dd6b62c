// SPDX-License-Identifier: MIT
// Dense matrix products for the short, narrow matrices of channel mixing (tens to hundreds of channels, a block of rows
// that fits in cache), on one thread. They exist because a product that is called per block can be fused with what
// comes before and after it, and because its order of summation does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <memory>

#include "core/bf16_matmul.h"
#include "core/prefetch.h"

namespace dtnn {

// out[i, j] = sum_k a[i, k] b[k, j]  (+ out[i, j] with `accumulate`), k ascending, one rounding per step where the
// machine has FMA. `a` may have any strides, so a transposed factor needs no copy; rows of `b` and `out` are
// contiguous.
template <typename T>
struct SmallMatmul {
  const T* a;
  int64_t a_row_stride;
  int64_t a_depth_stride;
  const T* b;
  int64_t b_row_stride;
  T* out;
  int64_t out_row_stride;
  int64_t rows;
  int64_t cols;
  int64_t depth;
  bool accumulate;
};

// For a `b` that is used once; `ahead` is fetched on the way.
void multiply(const SmallMatmul<float>& job, Prefetch& ahead);
void multiply(const SmallMatmul<double>& job, Prefetch& ahead);

// A right factor [depth, cols] that is used for many blocks of rows, copied into panels as wide as the tiles of the
// product: a tile then reads it as one stream. The last panel is filled up with zeros.
template <typename T>
class PackedMatrix {
 public:
  // Element [k, j] is b[k * row_stride + j * col_stride]. With `in_bf16`, which float64 ignores, products round both
  // factors to bfloat16.
  PackedMatrix(const T* b, int64_t row_stride, int64_t col_stride, int64_t depth, int64_t cols, bool in_bf16 = false);

  const T* panels() const { return data_; }
  const Bf16Matrix* bf16() const { return bf16_.get(); }  // in place of the panels, or null
  int64_t depth() const { return depth_; }
  int64_t cols() const { return cols_; }

 private:
  std::unique_ptr<T[]> storage_;
  std::unique_ptr<Bf16Matrix> bf16_;
  T* data_ = nullptr;
  int64_t depth_;
  int64_t cols_;
};

// out [rows, cols] = a [rows, depth] times b, both with contiguous rows one after the other.
void multiply(const float* a, const PackedMatrix<float>& b, float* out, int64_t rows, Prefetch& ahead);
void multiply(const double* a, const PackedMatrix<double>& b, double* out, int64_t rows, Prefetch& ahead);

}  // namespace dtnn
