// SPDX-License-Identifier: MIT
// Compiled with -ffp-contract=fast (CMakeLists.txt): the products become FMAs, which doubles the peak rate.
#include "core/small_matmul.h"

#include "core/matmul_tile.h"
#include "core/simd_level.h"

namespace dtnn {
namespace {

template <typename T, int lanes, int rows, int vectors>
DTNN_ALWAYS_INLINE void multiply_tile(const SmallMatmul<T>& job, int64_t i, int64_t j) {
  Tile<T, lanes, rows, vectors> tile;
  tile.add_product({job.a + i * job.a_row_stride, job.a_row_stride, job.a_depth_stride}, job.b + j, job.b_row_stride,
                   job.depth);
  tile.store(job.out + i * job.out_row_stride + j, job.out_row_stride, job.accumulate);
}

// All rows of a panel of columns.
template <typename T, int lanes, int rows, int vectors>
DTNN_ALWAYS_INLINE void multiply_panel(const SmallMatmul<T>& job, int64_t j, Prefetch& ahead) {
  int64_t i = 0;
  for (; i + rows <= job.rows; i += rows) {
    ahead.advance();
    multiply_tile<T, lanes, rows, vectors>(job, i, j);
  }
  for (; i < job.rows; ++i) multiply_tile<T, lanes, 1, vectors>(job, i, j);
}

// Panels as wide as they come, then narrower ones for the last columns. rows * 2 accumulators fill the registers.
template <typename T, int lanes, int rows>
DTNN_ALWAYS_INLINE void multiply_all(const SmallMatmul<T>& job, Prefetch& ahead) {
  ahead.share_out((job.cols / (2 * lanes)) * (job.rows / rows));
  int64_t j = 0;
  for (; j + 2 * lanes <= job.cols; j += 2 * lanes) multiply_panel<T, lanes, rows, 2>(job, j, ahead);
  for (; j + lanes <= job.cols; j += lanes) multiply_panel<T, lanes, rows, 1>(job, j, ahead);
  constexpr int narrow = lanes > 4 ? lanes / 4 : 1;
  for (; j + narrow <= job.cols; j += narrow) multiply_panel<T, narrow, rows, 1>(job, j, ahead);
  for (; j < job.cols; ++j) multiply_panel<T, 1, rows, 1>(job, j, ahead);
}

template <typename T>
constexpr int lanes_of(int bytes) {
  return bytes / static_cast<int>(sizeof(T));
}

// Tiles are sized for the registers of each level, so every level has its own template arguments.
#ifdef DTNN_HAVE_SIMD_LEVELS
template <typename T>
DTNN_FOR_AVX512 void multiply_avx512(const SmallMatmul<T>& job, Prefetch& ahead) {
  multiply_all<T, lanes_of<T>(64), 8>(job, ahead);
}
template <typename T>
DTNN_FOR_AVX2 void multiply_avx2(const SmallMatmul<T>& job, Prefetch& ahead) {
  multiply_all<T, lanes_of<T>(32), 4>(job, ahead);
}
#endif

template <typename T>
void multiply_with_best(const SmallMatmul<T>& job, Prefetch& ahead) {
#ifdef DTNN_HAVE_SIMD_LEVELS
  if (simd_level() == SimdLevel::kAvx512) return multiply_avx512(job, ahead);
  if (simd_level() == SimdLevel::kAvx2) return multiply_avx2(job, ahead);
#endif
  multiply_all<T, lanes_of<T>(16), 4>(job, ahead);
}

}  // namespace

void multiply(const SmallMatmul<float>& job, Prefetch& ahead) { multiply_with_best(job, ahead); }
void multiply(const SmallMatmul<double>& job, Prefetch& ahead) { multiply_with_best(job, ahead); }

}  // namespace dtnn
