// SPDX-License-Identifier: MIT
// The inner product of rank2_product.h: one step, 48 rows of a warp times its columns, by multiply-adds or on tensor
// cores. Both leave the same sums in the same lane: of the lane's group (8 of them) 6 rows, of its quad (4) packs of
// columns.
#pragma once

#include "rank2_tiling.h"
#include "tensor_cores.h"

namespace dtnn::cuda {

// Where packs lie in a step of `rows` rows of 4 packs. The exclusive or makes those that the lanes of a warp read
// together, rows of the same number modulo 6, lie in different banks. Rows 6n..6n+5 are only permuted among themselves.
__device__ __forceinline__ unsigned row_key(unsigned group) { return (group & 1) << 2 | (group >> 1 & 3); }
__device__ __forceinline__ unsigned row_place(unsigned rows, unsigned row, unsigned pack) {
  const unsigned in_step = (row * kStepPacks + pack % kStepPacks) ^ row_key(row / kLaneRows);
  return pack / kStepPacks * (rows * kStepPacks) + in_step;
}

template <typename T, int lane_packs>
using Sums = Packed<T>[kLaneRows][lane_packs];

// Whether row i of a lane is its atom's first or last, for K components.
__device__ __forceinline__ bool is_first_component(unsigned i, int64_t components) {
  return i == 0 || components == 1 || (components == 3 && i == 3);
}
__device__ __forceinline__ bool is_last_component(unsigned i, int64_t components) {
  return i + 1 == kLaneRows || is_first_component(i + 1, components);
}

// The weight as the product reads it; `packed` when a pack of channels in is 16 aligned bytes.
template <typename T>
struct WeightInput {
  Rank2Weight<T> weight;
  int64_t channels_in;
  int64_t channels_out;
  bool packed;

  WeightInput(const Rank2Weight<T>& weight_, const Rank2Sizes& sizes)
      : weight(weight_),
        channels_in(sizes.channels_in),
        channels_out(sizes.channels_out),
        packed(weight_.in_stride == 1 && weight_.out_stride % kPackSize<T> == 0 &&
               can_pack<T>(channels_in, weight_.data, weight_.data)) {}

  // Channels in `in`.. of one column; 0 outside.
  __device__ Packed<T> pack(int64_t in, int64_t out) const {
    Packed<T> value{};
    if (out >= channels_out) return value;
    const T* const source = weight.data + in * weight.in_stride + out * weight.out_stride;
    if (packed) return in < channels_in ? *reinterpret_cast<const Packed<T>*>(source) : value;
#pragma unroll
    for (int v = 0; v < kPackSize<T>; ++v) {
      if (in + v < channels_in) value.item[v] = source[v * weight.in_stride];
    }
    return value;
  }
};

template <typename T, int lane_packs_>
struct MultiplyAdd {
  using Item = T;
  static constexpr int lane_packs = lane_packs_;
  // Bits of quad and group alternate: lanes 2i and 2i + 1 read the same rows, lanes i and i + 2 the same columns, and
  // a warp's loads of 16 bytes take two turns instead of four.
  static __device__ unsigned group(unsigned lane) { return (lane >> 1 & 1) | (lane >> 3) << 1; }
  static __device__ unsigned quad(unsigned lane) { return (lane & 1) | (lane >> 2 & 1) << 1; }

  // In shared memory [depth][columns]. Threads go along the columns, so that their stores meet different banks.
  static __device__ void load_weight(const WeightInput<T>& from, int64_t first_in, int64_t first_out, unsigned steps,
                                     unsigned columns, Divisor by_columns, Packed<T>* to) {
    T* const items = reinterpret_cast<T*>(to);
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < steps * kStepPacks * columns; i += blockDim.x) {
      const unsigned pack = by_columns.quotient(i), depth = pack * kPackSize<T>, column = i - pack * columns;
      const Packed<T> value = from.pack(first_in + depth, first_out + column);
#pragma unroll
      for (int v = 0; v < kPackSize<T>; ++v) items[(depth + v) * columns + column] = value.item[v];
    }
  }

  // `rows`: the lane's first row in this step. `weight`: this step's, `column`: the lane's first.
  static __device__ void step(Sums<T, lane_packs>& sums, const Packed<T>* rows, unsigned key, unsigned,
                              const Packed<T>* weight, unsigned columns, unsigned warp_column, unsigned quad) {
    const unsigned packs = columns / kPackSize<T>;
    weight += warp_column / kPackSize<T> + quad;
#pragma unroll 1
    for (unsigned u = 0; u < kStepPacks; ++u) {
      Packed<T> x[kLaneRows];
#pragma unroll
      for (unsigned i = 0; i < kLaneRows; ++i) x[i] = rows[(i * kStepPacks + u) ^ key];
#pragma unroll
      for (int v = 0; v < kPackSize<T>; ++v) {
#pragma unroll
        for (int p = 0; p < lane_packs; ++p) {
          const Packed<T> w = weight[(u * kPackSize<T> + v) * packs + 4 * p];
#pragma unroll
          for (unsigned i = 0; i < kLaneRows; ++i) add_scaled(sums[i][p], x[i].item[v], w);
        }
      }
    }
  }
};

// A lane's 6 rows are those that the fragments of three products of 16 rows want of its group: two of each. The depth
// and the columns are dealt to the lanes so that each reads and ends up with whole packs: channels 4q..4q+3 of a step,
// and of every 16 columns 4q..4q+3.
template <Precision precision>
struct TensorCoreMultiply {
  using Item = float;
  static constexpr int lane_packs = 2;
  static constexpr int column_products = 4;  // of 8 columns, two for each pack
  static __device__ unsigned group(unsigned lane) { return lane >> 2; }
  static __device__ unsigned quad(unsigned lane) { return lane & 3; }

  // In shared memory [step][column][4 packs], factors rounded.
  static __device__ void load_weight(const WeightInput<float>& from, int64_t first_in, int64_t first_out,
                                     unsigned steps, unsigned columns, Divisor by_columns, Packed<float>* to) {
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < steps * columns * kStepPacks; i += blockDim.x) {
      const unsigned step = by_columns.quotient(i / kStepPacks);
      const unsigned pack = i % kStepPacks, column = i / kStepPacks - step * columns;
      Packed<float> value = from.pack(first_in + (step * kStepPacks + pack) * 4, first_out + column);
      if (precision == Precision::kTf32) {
#pragma unroll
        for (float& item : value.item) item = __uint_as_float(to_tf32(item));
      }
      to[i] = value;
    }
  }

  static __device__ void step(Sums<float, lane_packs>& sums, const Packed<float>* rows, unsigned key, unsigned group,
                              const Packed<float>* weight, unsigned, unsigned warp_column, unsigned quad) {
    Packed<float> x[kLaneRows];
#pragma unroll
    for (unsigned i = 0; i < kLaneRows; ++i) x[i] = rows[(i * kStepPacks + quad) ^ key];
    weight += (warp_column + (group >> 1 << 2 | (group & 1))) * kStepPacks + quad;
#pragma unroll
    for (int j = 0; j < column_products; ++j) {
      const Packed<float> w = weight[(j / 2 * 16 + j % 2 * 2) * kStepPacks];
#pragma unroll
      for (int t = 0; t < 3; ++t) {
        float* const first = &sums[2 * t][j / 2].item[j % 2 * 2];
        float* const second = &sums[2 * t + 1][j / 2].item[j % 2 * 2];
        float c[4] = {first[0], first[1], second[0], second[1]};
        multiply(c, x[2 * t], x[2 * t + 1], w);
        first[0] = c[0], first[1] = c[1], second[0] = c[2], second[1] = c[3];
      }
    }
  }

 private:
  // Depth 16: rows `first` of the upper half, `second` of the lower.
  static __device__ void multiply(float (&c)[4], Packed<float> first, Packed<float> second, Packed<float> w) {
    if (precision == Precision::kTf32) {
#pragma unroll
      for (int h = 0; h < 4; h += 2) {
        const unsigned a[4] = {to_tf32(first.item[h]), to_tf32(second.item[h]), to_tf32(first.item[h + 1]),
                               to_tf32(second.item[h + 1])};
        const unsigned b[2] = {__float_as_uint(w.item[h]), __float_as_uint(w.item[h + 1])};
        multiply_tf32(c, a, b);
      }
    } else {
      const unsigned a[4] = {
          to_bfloat16_pair(first.item[0], first.item[1]), to_bfloat16_pair(second.item[0], second.item[1]),
          to_bfloat16_pair(first.item[2], first.item[3]), to_bfloat16_pair(second.item[2], second.item[3])};
      const unsigned b[2] = {to_bfloat16_pair(w.item[0], w.item[1]), to_bfloat16_pair(w.item[2], w.item[3])};
      multiply_bfloat16(c, a, b);
    }
  }
};

}  // namespace dtnn::cuda
