// SPDX-License-Identifier: MIT
#include "core/bf16_matmul.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/prefetch.h"
#include "core/simd_level.h"

#ifdef DTNN_HAVE_SIMD_LEVELS
#include <immintrin.h>
#endif

namespace dtnn {
namespace {

constexpr int64_t kWidth = Bf16Matrix::kWidth;

// As vcvtneps2bf16 rounds.
DTNN_ALWAYS_INLINE uint32_t round_to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;  // not a number
  if ((bits & 0x7f800000u) == 0) return (bits >> 16) & 0x8000u;         // subnormal
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

DTNN_ALWAYS_INLINE float widen_bf16(uint32_t half) {
  const uint32_t bits = half << 16;
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

DTNN_ALWAYS_INLINE float without_subnormals(float x) {
  return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0F, x) : x;
}

// What the tiles of vdpbf16ps compute, row by row.
void multiply_emulated(const float* a, const Bf16Matrix& b, const SumStart& start, float* out, int64_t rows) {
  const int64_t depth = b.depth(), pairs = b.pairs(), cols = b.cols();
  for (int64_t i = 0; i < rows; ++i, a += depth, out += cols) {
    const uint16_t* panel = b.panels();
    for (int64_t j = 0; j < cols; j += kWidth, panel += 2 * kWidth * pairs) {
      const int64_t used = std::min(kWidth, cols - j);
      float sums[kWidth] = {};
      if (start.values != nullptr) std::copy_n(start.values + i * start.row_stride + j, used, sums);
      for (int64_t p = 0; p < pairs; ++p) {
        const float first = widen_bf16(round_to_bf16(a[2 * p]));
        const float second = 2 * p + 1 < depth ? widen_bf16(round_to_bf16(a[2 * p + 1])) : 0.0F;
        const uint16_t* pair = panel + p * 2 * kWidth;
        for (int64_t c = 0; c < kWidth; ++c) {
          const float sum = without_subnormals(sums[c] + second * widen_bf16(pair[2 * c + 1]));
          sums[c] = without_subnormals(sum + first * widen_bf16(pair[2 * c]));
        }
      }
      std::copy_n(sums, used, out + j);
    }
  }
}

#ifdef DTNN_HAVE_SIMD_LEVELS
#define DTNN_FOR_BF16 __attribute__((target("arch=x86-64-v4,avx512bf16")))

// Rows of the left factor are rounded a part of the depth at a time, into memory of the first level of the cache.
constexpr int64_t kPartDepth = 512;

// The first numbers of a vector that starts `left` before an end.
inline uint16_t mask_of(int64_t left) { return left >= 16 ? 0xffff : static_cast<uint16_t>((1u << left) - 1u); }

// `depth` numbers and zeros up to the next multiple of 32.
DTNN_FOR_BF16 inline void round_row(const float* x, int64_t depth, uint16_t* out) {
  for (int64_t k = 0; k < depth; k += 32) {
    const __m512 low = _mm512_maskz_loadu_ps(mask_of(depth - k), x + k);
    const __m512 high = _mm512_maskz_loadu_ps(mask_of(std::max<int64_t>(0, depth - k - 16)), x + k + 16);
    _mm512_storeu_si512(out + k, (__m512i)_mm512_cvtne2ps_pbh(high, low));
  }
}

// What a tile reads and writes: rows of `left` kPartDepth apart, rows of `out` out_stride apart.
struct Bf16Tile {
  const uint16_t* left;
  const uint16_t* panel;
  int64_t pairs;
  SumStart start;
  float* out;
  int64_t out_stride;
  uint16_t last_mask;  // of the last vector
};

// `rows` x (16 vectors) sums in registers.
template <int rows, int vectors>
DTNN_FOR_BF16 inline void multiply_tile(const Bf16Tile& tile) {
  __m512 sums[rows][vectors];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const __mmask16 mask = v + 1 == vectors ? tile.last_mask : 0xffff;
      sums[r][v] = _mm512_setzero_ps();
      if (tile.start.values == nullptr) continue;
      sums[r][v] = _mm512_maskz_loadu_ps(mask, tile.start.values + r * tile.start.row_stride + 16 * v);
    }
  }
  const uint16_t* left = tile.left;
  const uint16_t* panel = tile.panel;
  for (int64_t p = 0; p < tile.pairs; ++p, left += 2, panel += 2 * kWidth) {
    __m512bh right[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) right[v] = (__m512bh)_mm512_loadu_si512(panel + 32 * v);
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
      int32_t pair;
      std::memcpy(&pair, left + r * kPartDepth, sizeof(pair));
      const __m512bh factor = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], right[v], factor);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const __mmask16 mask = v + 1 == vectors ? tile.last_mask : 0xffff;
      _mm512_mask_storeu_ps(tile.out + r * tile.out_stride + 16 * v, mask, sums[r][v]);
    }
  }
}

// Some rows of the output, panel after panel.
template <int rows>
DTNN_FOR_BF16 inline void multiply_rows(const float* a, const Bf16Matrix& b, SumStart start, float* out,
                                        Prefetch& ahead) {
  alignas(64) uint16_t left[rows * kPartDepth];
  const int64_t depth = b.depth(), cols = b.cols();
  int64_t first = 0;
  do {
    const int64_t part = std::min(kPartDepth, depth - first);
    for (int r = 0; r < rows; ++r) round_row(a + r * depth + first, part, left + r * kPartDepth);
    Bf16Tile tile{left, b.panels() + first * kWidth, (part + 1) / 2, start, out, cols, 0xffff};
    for (int64_t j = 0; j < cols; j += kWidth) {
      ahead.advance();
      tile.out = out + j;
      tile.start.values = start.values == nullptr ? nullptr : start.values + j;
      if (cols - j > 16) {
        tile.last_mask = mask_of(cols - j - 16);
        multiply_tile<rows, 2>(tile);
      } else {
        tile.last_mask = mask_of(cols - j);
        multiply_tile<rows, 1>(tile);
      }
      tile.panel += 2 * kWidth * b.pairs();
    }
    first += part;
    start = {out, cols};
  } while (first < depth);
}

template <int rows>
DTNN_FOR_BF16 inline int64_t multiply_full_tiles(const float* a, const Bf16Matrix& b, const SumStart& start, float* out,
                                                 int64_t first, int64_t end, Prefetch& ahead) {
  for (; first + rows <= end; first += rows) {
    const float* values = start.values == nullptr ? nullptr : start.values + first * start.row_stride;
    multiply_rows<rows>(a + first * b.depth(), b, {values, start.row_stride}, out + first * b.cols(), ahead);
  }
  return first;
}

DTNN_FOR_BF16 void multiply_native(const float* a, const Bf16Matrix& b, const SumStart& start, float* out, int64_t rows,
                                   Prefetch& ahead) {
  const int64_t panels = (b.cols() + kWidth - 1) / kWidth;
  ahead.share_out(panels * (rows / 12));
  int64_t done = multiply_full_tiles<12>(a, b, start, out, 0, rows, ahead);
  done = multiply_full_tiles<4>(a, b, start, out, done, rows, ahead);
  multiply_full_tiles<1>(a, b, start, out, done, rows, ahead);
}
#endif

}  // namespace

Bf16Matrix::Bf16Matrix(const float* b, int64_t row_stride, int64_t col_stride, int64_t depth, int64_t cols)
    : depth_(depth), cols_(cols) {
  constexpr int64_t line = 32;
  const int64_t num_panels = (cols + kWidth - 1) / kWidth;
  storage_.reset(new uint16_t[static_cast<size_t>(num_panels * pairs() * 2 * kWidth + line)]);
  // Vectors that do not cross cache lines.
  const uintptr_t misaligned = reinterpret_cast<uintptr_t>(storage_.get()) % 64;
  data_ = storage_.get() + (misaligned == 0 ? 0 : (64 - misaligned) / sizeof(uint16_t));
  uint16_t* to = data_;
  for (int64_t first = 0; first < cols; first += kWidth) {
    const int64_t used = std::min(kWidth, cols - first);
    for (int64_t k = 0; k < 2 * pairs(); k += 2, to += 2 * kWidth) {
      std::fill_n(to, 2 * kWidth, uint16_t{0});
      for (int64_t half = 0; half < std::min<int64_t>(2, depth - k); ++half) {
        const float* from = b + (k + half) * row_stride + first * col_stride;
        for (int64_t j = 0; j < used; ++j)
          to[2 * j + half] = static_cast<uint16_t>(round_to_bf16(from[j * col_stride]));
      }
    }
  }
}

void multiply(const float* a, const Bf16Matrix& b, const SumStart& start, float* out, int64_t rows, Prefetch& ahead) {
#ifdef DTNN_HAVE_SIMD_LEVELS
  if (bf16_products() == Bf16Products::kNative) return multiply_native(a, b, start, out, rows, ahead);
#endif
  multiply_emulated(a, b, start, out, rows);
}

}  // namespace dtnn
