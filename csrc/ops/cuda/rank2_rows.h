// SPDX-License-Identifier: MIT
// How the kernels of rank2_linear and rank2_gate bring rows into shared memory and write them, 16 bytes at a time where
// alignment allows, and what they compute of rows that are not given but follow from others.
#pragma once

#include "async_copy.h"
#include "rank2.h"

namespace dtnn::cuda {

template <typename T>
constexpr int kPackSize = kPackBytes / sizeof(T);
template <typename T>
using Packed = Pack<T, kPackSize<T>>;

constexpr int64_t kMaxTiles = 0x7fffffff;  // a tile is a 32-bit number
constexpr const char* kTooManyTiles = "expected fewer than 2^31 tiles of atoms and channels";

// A matrix [num_rows, width] to read. `packed`: every row starts at a multiple of 16 bytes.
template <typename T>
struct Input {
  const T* data;
  int64_t num_rows;
  int64_t width;
  bool packed;

  Input(const T* data_, int64_t num_rows_, int64_t width_)
      : data(data_), num_rows(num_rows_), width(width_), packed(can_pack<T>(width_, data_, data_)) {}
};

// A matrix to write, if there is one.
template <typename T>
struct Output {
  T* data;
  int64_t width;
  bool packed;

  Output(T* data_, int64_t width_) : data(data_), width(width_), packed(can_pack<T>(width_, data_, data_)) {}
};

// Starts to load the pack of row `row` from `column` on; what is outside of the matrix is 0.
template <typename T>
__device__ __forceinline__ void load_pack_async(Packed<T>* to, const Input<T>& from, int64_t row, int64_t column) {
  const bool inside = row < from.num_rows && column < from.width;
  const T* const source = from.data + (inside ? row * from.width + column : 0);
  if (from.packed) {
    copy_async(to, source, inside);
    return;
  }
  Packed<T> value{};
#pragma unroll
  for (int v = 0; v < kPackSize<T>; ++v) {
    if (inside && column + v < from.width) value.item[v] = source[v];
  }
  *to = value;
}

// The same, at once and into registers, for a column inside of the matrix.
template <typename T>
__device__ __forceinline__ Packed<T> load_pack(const T* data, int64_t width, bool packed, int64_t row, int64_t column) {
  const T* const source = data + row * width + column;
  if (packed) return *reinterpret_cast<const Packed<T>*>(source);
  Packed<T> value{};
#pragma unroll
  for (int v = 0; v < kPackSize<T>; ++v) {
    if (column + v < width) value.item[v] = source[v];
  }
  return value;
}

template <typename T>
__device__ __forceinline__ void store_pack(const Output<T>& to, int64_t row, int64_t column, Packed<T> value) {
  if (column >= to.width) return;
  T* const target = to.data + row * to.width + column;
  if (to.packed) {
    *reinterpret_cast<Packed<T>*>(target) = value;
    return;
  }
#pragma unroll
  for (int v = 0; v < kPackSize<T>; ++v) {
    if (column + v < to.width) target[v] = value.item[v];
  }
}

// The exponent of a power of 2. All widths in packs are powers of 2: a division by one is a shift.
__device__ __forceinline__ unsigned log2_of(unsigned power_of_two) { return __popc(power_of_two - 1); }

// Starts to load `rows` rows of `packs` (a power of 2) packs from (row, column) on; place(r, p) says where each goes.
template <typename T, typename Place>
__device__ __forceinline__ void load_rows_async(const Input<T>& from, int64_t row, int64_t column, unsigned rows,
                                                unsigned packs, Packed<T>* to, Place place) {
  const unsigned shift = log2_of(packs);
#pragma unroll 1  // a copy waits for nothing, and registers are short
  for (unsigned i = threadIdx.x; i < rows * packs; i += blockDim.x) {
    const unsigned r = i >> shift, p = i & (packs - 1);
    load_pack_async(to + place(r, p), from, row + r, column + p * kPackSize<T>);
  }
}

template <typename T>
__device__ __forceinline__ T sigmoid(T value) {
  return 1 / (1 + exp(-value));
}

// What an atom's rows are multiplied with, from its invariants.
template <typename T>
__device__ __forceinline__ Packed<T> row_factor(const Rank2Rows<T>& rows, Packed<T> invariant, Packed<T> norm) {
  Packed<T> factor;
#pragma unroll
  for (int v = 0; v < kPackSize<T>; ++v) {
    factor.item[v] = rows.origin == Rank2Rows<T>::kThroughGate ? sigmoid(invariant.item[v])
                                                               : invariant.item[v] / (norm.item[v] + rows.eps);
  }
  return factor;
}

// A pack of component k of the rows, from what is given, the mixed channels and the factor of the atom.
template <typename T>
__device__ __forceinline__ Packed<T> row_pack(const Rank2Rows<T>& rows, unsigned k, Packed<T> factor, Packed<T> given,
                                              Packed<T> mixed) {
  Packed<T> result;
  const T weight = k >= 3 ? T(2) : T(1);
#pragma unroll
  for (int v = 0; v < kPackSize<T>; ++v) {
    if (rows.origin == Rank2Rows<T>::kThroughGate) {
      result.item[v] = factor.item[v] * given.item[v];
    } else {
      result.item[v] = weight * mixed.item[v] * factor.item[v];
      if (rows.rows != nullptr) result.item[v] += given.item[v];
    }
  }
  return result;
}

}  // namespace dtnn::cuda
