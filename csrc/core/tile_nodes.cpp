// SPDX-License-Identifier: MIT
// Compiled with -ffp-contract=fast (CMakeLists.txt).
#include "core/tile_nodes.h"

#include <algorithm>

#include "core/node_kinds.h"
#include "core/simd_level.h"

namespace dtnn {
namespace {

template <typename T>
DTNN_ALWAYS_INLINE void fill_all(const T* row, int64_t rows, int64_t channels, T* out) {
  for (int64_t n = 0; n < rows; ++n) std::copy_n(row, channels, out + n * channels);
}

template <typename T>
DTNN_ALWAYS_INLINE void sum_columns(const T* __restrict x, int64_t rows, int64_t channels, T* __restrict sums) {
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t d = 0; d < channels; ++d) sums[d] += x[n * channels + d];
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void add_all_dots(const T* x, const T* column, int64_t rows, int64_t depth, bool accumulate,
                                     T* out) {
  for (int64_t n = 0; n < rows; ++n) {
    const T* row = x + n * depth;
    const T sum = sum_channels<T>(depth, [&](int64_t d) { return row[d] * column[d]; });
    out[n] = accumulate ? out[n] + sum : sum;
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void add_all_scaled(const T* __restrict x, const T* factors, int64_t rows, int64_t depth,
                                       T* __restrict sums) {
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t d = 0; d < depth; ++d) sums[d] += factors[n] * x[n * depth + d];
  }
}

}  // namespace

DTNN_SIMD_VERSIONS_OF(void, run_node_forward, forward_of_any_kind<64>, forward_of_any_kind<32>, forward_of_any_kind<16>,
                      (TileNodeKind kind, const NodeForward<float>& node), (kind, node))
DTNN_SIMD_VERSIONS_OF(void, run_node_forward, forward_of_any_kind<64>, forward_of_any_kind<32>, forward_of_any_kind<16>,
                      (TileNodeKind kind, const NodeForward<double>& node), (kind, node))
DTNN_SIMD_VERSIONS_OF(void, run_node_backward, backward_of_any_kind<64>, backward_of_any_kind<32>,
                      backward_of_any_kind<16>, (TileNodeKind kind, const NodeBackward<float>& node), (kind, node))
DTNN_SIMD_VERSIONS_OF(void, run_node_backward, backward_of_any_kind<64>, backward_of_any_kind<32>,
                      backward_of_any_kind<16>, (TileNodeKind kind, const NodeBackward<double>& node), (kind, node))
DTNN_SIMD_VERSIONS(void, fill_rows_with, fill_all, (const float* row, int64_t rows, int64_t channels, float* out),
                   (row, rows, channels, out))
DTNN_SIMD_VERSIONS(void, fill_rows_with, fill_all, (const double* row, int64_t rows, int64_t channels, double* out),
                   (row, rows, channels, out))
DTNN_SIMD_VERSIONS(void, add_column_sums, sum_columns, (const float* x, int64_t rows, int64_t channels, float* sums),
                   (x, rows, channels, sums))
DTNN_SIMD_VERSIONS(void, add_column_sums, sum_columns, (const double* x, int64_t rows, int64_t channels, double* sums),
                   (x, rows, channels, sums))
DTNN_SIMD_VERSIONS(void, add_dots, add_all_dots,
                   (const float* x, const float* column, int64_t rows, int64_t depth, bool accumulate, float* out),
                   (x, column, rows, depth, accumulate, out))
DTNN_SIMD_VERSIONS(void, add_scaled_rows, add_all_scaled,
                   (const float* x, const float* factors, int64_t rows, int64_t depth, float* sums),
                   (x, factors, rows, depth, sums))
DTNN_SIMD_VERSIONS(void, add_dots, add_all_dots,
                   (const double* x, const double* column, int64_t rows, int64_t depth, bool accumulate, double* out),
                   (x, column, rows, depth, accumulate, out))
DTNN_SIMD_VERSIONS(void, add_scaled_rows, add_all_scaled,
                   (const double* x, const double* factors, int64_t rows, int64_t depth, double* sums),
                   (x, factors, rows, depth, sums))

}  // namespace dtnn
