// SPDX-License-Identifier: MIT
// A dense matrix product for the short, narrow matrices of channel mixing (tens to hundreds of channels, a block of
// rows that fits in cache), on one thread. It exists because a product that is called per block can be fused with what
// comes before and after it, and because its order of summation does not depend on the number of threads.
#pragma once

#include <cstdint>

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

void multiply(const SmallMatmul<float>& job);
void multiply(const SmallMatmul<double>& job);

}  // namespace dtnn
