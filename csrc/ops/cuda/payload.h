// SPDX-License-Identifier: MIT
// How kernels that move rows of payload (one atom or bond, `width` numbers) share them among threads.
#pragma once

#include <cstdint>

#include "gpu.h"
#include "sixteen_bits.h"

namespace dtnn::cuda {

// W numbers that travel in one load or store.
template <typename T, int W>
struct alignas(sizeof(T) * W) Pack {
  T item[W];
};

// sum += coefficient * value, item by item. The value comes by value: nvcc then reads memory in one wide load instead
// of W narrow ones.
template <typename T, int W>
__device__ __forceinline__ void add_scaled(Pack<SumOf<T>, W>& sum, SumOf<T> coefficient, Pack<T, W> value) {
#pragma unroll
  for (int w = 0; w < W; ++w) sum.item[w] += coefficient * widen(value.item[w]);
}

// Sums as values of T.
template <typename T, int W>
__device__ __forceinline__ Pack<T, W> narrowed(const Pack<SumOf<T>, W>& sum) {
  Pack<T, W> value;
#pragma unroll
  for (int w = 0; w < W; ++w) narrow(sum.item[w], value.item[w]);
  return value;
}

template <typename T, int W>
__device__ __forceinline__ void fill(Pack<T, W>& pack, T value) {
#pragma unroll
  for (int w = 0; w < W; ++w) pack.item[w] = value;
}

constexpr int kPackBytes = 16;  // the widest load of a GPU thread

// Whether rows of `width` numbers of T can be read in packs of 16 bytes: every row must start at a multiple of 16.
template <typename T>
bool can_pack(int64_t width, const void* input, const void* output) {
  const auto is_aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kPackBytes == 0; };
  return width * static_cast<int64_t>(sizeof(T)) % kPackBytes == 0 && is_aligned(input) && is_aligned(output);
}

// Divides numbers below 2^31 by a number that the host knows, in 1 to 2^31 - 1: a multiplication and a shift, where a
// GPU's division takes about 25 instructions. With 2^(l-1) < d <= 2^l the factor m = ceil(2^(31+l) / d) fits into 32
// bits; m d exceeds 2^(31+l) by less than d, so n m / 2^(31+l) exceeds n / d by less than 1 / d, and has its floor.
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(unsigned divisor) {
    while (uint64_t{1} << shift_ < divisor) ++shift_;
    factor_ = static_cast<unsigned>(((uint64_t{1} << (31 + shift_)) + divisor - 1) / divisor);
  }

  __host__ __device__ __forceinline__ unsigned quotient(unsigned number) const {
    return static_cast<unsigned>(uint64_t{2 * number} * factor_ >> 32) >> shift_;
  }

 private:
  unsigned factor_ = 1u << 31;
  unsigned shift_ = 0;
};

// Rows cut into units (a pack or a number, one thread's work), and units into blocks. A block owns whole rows, so a
// thread finds its row with one 32-bit division for any width, and no lane idles when the width is not a power
// of 2.
struct RowTiling {
  unsigned units_per_row;
  Divisor to_row;  // by units_per_row
  unsigned rows_per_block;
  unsigned threads;
  int64_t blocks;
};

constexpr unsigned kMaxThreads = 256;
constexpr int64_t kMaxWidth = 0x7fffffff;  // a unit of a row is a 32-bit number
constexpr const char* kTooWide = "expected rows of fewer than 2^31 numbers";

inline RowTiling tile_rows(int64_t num_rows, int64_t units_per_row, unsigned units_per_block) {
  RowTiling tiling;
  tiling.units_per_row = static_cast<unsigned>(units_per_row);
  tiling.to_row = Divisor(tiling.units_per_row);
  tiling.rows_per_block = units_per_row < units_per_block ? units_per_block / tiling.units_per_row : 1;
  const uint64_t units = uint64_t{tiling.rows_per_block} * tiling.units_per_row;
  tiling.threads = units < kMaxThreads ? static_cast<unsigned>((units + 31) / 32 * 32) : kMaxThreads;
  tiling.blocks = (num_rows + tiling.rows_per_block - 1) / tiling.rows_per_block;
  return tiling;
}

}  // namespace dtnn::cuda
