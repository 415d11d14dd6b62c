// SPDX-License-Identifier: MIT
// The innermost loop of the matrix products: a tile of the output in registers.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/simd_level.h"

namespace dtnn {

// A vector of `lanes` numbers; a plain number for one lane.
template <typename T, int lanes>
struct Vector {
  typedef T type __attribute__((vector_size(lanes * sizeof(T))));
};
template <typename T>
struct Vector<T, 1> {
  typedef T type;
};

// A left factor: element [r, k] is start[r * row_stride + k * depth_stride].
template <typename T>
struct TileLeft {
  const T* start;
  int64_t row_stride;
  int64_t depth_stride;
};

// `rows` x (vectors * lanes) sums over the whole depth.
template <typename T, int lanes, int rows, int vectors>
struct Tile {
  using V = typename Vector<T, lanes>::type;
  V sums[rows][vectors] = {};

  // Adds a [rows, depth] times b [depth, vectors * lanes], whose rows are b_row_stride apart.
  DTNN_ALWAYS_INLINE void add_product(const TileLeft<T>& left, const T* b, int64_t b_row_stride, int64_t depth) {
    // One pointer for three rows: with one for each they would not fit into the registers for addresses.
    constexpr int num_starts = (rows + 2) / 3;
    const T* starts[num_starts];
#pragma GCC unroll 16
    for (int s = 0; s < num_starts; ++s) starts[s] = left.start + 3 * s * left.row_stride;
    for (int64_t k = 0; k < depth; ++k, b += b_row_stride) {
      V b_row[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) std::memcpy(&b_row[v], b + v * lanes, sizeof(V));
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        const T factor = starts[r / 3][(r % 3) * left.row_stride];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sums[r][v] += factor * b_row[v];
      }
#pragma GCC unroll 16
      for (int s = 0; s < num_starts; ++s) starts[s] += left.depth_stride;
    }
  }

  DTNN_ALWAYS_INLINE void store(T* out, int64_t row_stride, bool accumulate) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r, out += row_stride) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        V sum = sums[r][v];
        if (accumulate) {
          V before;
          std::memcpy(&before, out + v * lanes, sizeof(V));
          sum += before;
        }
        std::memcpy(out + v * lanes, &sum, sizeof(V));
      }
    }
  }

  // Only the first `cols` columns.
  DTNN_ALWAYS_INLINE void store_first_columns(T* out, int64_t row_stride, int64_t cols) {
    constexpr int width = vectors * lanes;
    T full[rows * width];
    store(full, width, false);
    for (int r = 0; r < rows; ++r) {
      std::memcpy(out + r * row_stride, full + r * width, static_cast<size_t>(cols) * sizeof(T));
    }
  }
};

}  // namespace dtnn
