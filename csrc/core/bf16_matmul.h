// SPDX-License-Identifier: MIT
// Matrix products of float32 numbers whose factors are rounded to bfloat16 and whose sums stay float32. The instruction
// vdpbf16ps of AVX-512 does twice as many multiplications in a cycle as the FMA of float32.
#pragma once

#include <cstdint>
#include <memory>

namespace dtnn {

class Prefetch;

// A right factor [depth, cols], rounded to bfloat16 (nearest, ties to even; subnormal numbers to zero). Its panels are
// 32 columns wide. Each holds pairs of rows side by side: row 2 p of a column, then row 2 p + 1. Zeros fill up the last
// pair and the last panel.
class Bf16Matrix {
 public:
  static constexpr int64_t kWidth = 32;

  // Element [k, j] is b[k * row_stride + j * col_stride].
  Bf16Matrix(const float* b, int64_t row_stride, int64_t col_stride, int64_t depth, int64_t cols);

  const uint16_t* panels() const { return data_; }
  int64_t depth() const { return depth_; }
  int64_t pairs() const { return (depth_ + 1) / 2; }
  int64_t cols() const { return cols_; }

 private:
  std::unique_ptr<uint16_t[]> storage_;
  uint16_t* data_;
  int64_t depth_;
  int64_t cols_;
};

// What sums start from: rows of `values` that are row_stride apart (0 for a bias, the same for all rows); null for 0.
struct SumStart {
  const float* values = nullptr;
  int64_t row_stride = 0;
};

// out [rows, cols] = start + a [rows, depth] times b, with contiguous rows one after the other; `a` is rounded to
// bfloat16. A sum goes over the pairs in order and takes the second product of a pair first, as vdpbf16ps does; so it
// depends neither on the other rows nor on whether the instruction is emulated (subnormal products aside).
void multiply(const float* a, const Bf16Matrix& b, const SumStart& start, float* out, int64_t rows, Prefetch& ahead);

}  // namespace dtnn
