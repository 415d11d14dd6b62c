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
template <int bytes, int rows, typename T>
DTNN_ALWAYS_INLINE void multiply_all(const SmallMatmul<T>& job, Prefetch& ahead) {
  constexpr int lanes = bytes / static_cast<int>(sizeof(T));
  ahead.share_out((job.cols / (2 * lanes)) * (job.rows / rows));
  int64_t j = 0;
  for (; j + 2 * lanes <= job.cols; j += 2 * lanes) multiply_panel<T, lanes, rows, 2>(job, j, ahead);
  for (; j + lanes <= job.cols; j += lanes) multiply_panel<T, lanes, rows, 1>(job, j, ahead);
  constexpr int narrow = lanes > 4 ? lanes / 4 : 1;
  for (; j + narrow <= job.cols; j += narrow) multiply_panel<T, narrow, rows, 1>(job, j, ahead);
  for (; j < job.cols; ++j) multiply_panel<T, 1, rows, 1>(job, j, ahead);
}

// Tiles are sized for the registers of each level, so every level has its own template arguments.
DTNN_SIMD_VERSIONS_OF(void, multiply_at_level, (multiply_all<64, 8>), (multiply_all<32, 4>), (multiply_all<16, 4>),
                      (const SmallMatmul<float>& job, Prefetch& ahead), (job, ahead))
DTNN_SIMD_VERSIONS_OF(void, multiply_at_level, (multiply_all<64, 8>), (multiply_all<32, 4>), (multiply_all<16, 4>),
                      (const SmallMatmul<double>& job, Prefetch& ahead), (job, ahead))

}  // namespace

void multiply(const SmallMatmul<float>& job, Prefetch& ahead) { multiply_at_level(job, ahead); }
void multiply(const SmallMatmul<double>& job, Prefetch& ahead) { multiply_at_level(job, ahead); }

}  // namespace dtnn
