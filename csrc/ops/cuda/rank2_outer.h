// SPDX-License-Identifier: MIT
// The inner part of rank2_weight_grad_cuda.cu: a warp adds the outer products of some rows, 32 * out_blocks channels of
// one matrix times 32 of another, both in shared memory row by row.
#pragma once

#include "rank2_rows.h"
#include "tensor_cores.h"

namespace dtnn::cuda {

constexpr unsigned kOuterRows = 16;  // rows that tensor cores take at once
constexpr unsigned kLaneIn = 8;      // channels of a lane

// sums[i][e] belongs to the channels out_channel(lane, i) and in_channel(lane, e) of the warp's.
template <typename T, int out_blocks_>
struct OuterMultiplyAdd {
  using Item = T;
  static constexpr int out_blocks = out_blocks_;
  using Sums = T[4 * out_blocks][kLaneIn];
  // As in MultiplyAdd: lanes that read the same are next to each other.
  static __device__ unsigned group(unsigned lane) { return (lane >> 1 & 1) | (lane >> 3) << 1; }
  static __device__ unsigned quad(unsigned lane) { return (lane & 1) | (lane >> 2 & 1) << 1; }
  static __device__ unsigned out_channel(unsigned lane, unsigned i) {
    return (i / kPackSize<T> * 8 + group(lane)) * kPackSize<T> + i % kPackSize<T>;
  }
  static __device__ unsigned in_channel(unsigned lane, unsigned e) {
    return (e / kPackSize<T> * 4 + quad(lane)) * kPackSize<T> + e % kPackSize<T>;
  }
  static __device__ unsigned place(unsigned, unsigned pack) { return pack; }

  static __device__ void add_rows(Sums& sums, const Packed<T>* total, unsigned total_stride, const Packed<T>* x,
                                  unsigned x_stride, unsigned lane) {
    constexpr int out_packs = 4 * out_blocks / kPackSize<T>, in_packs = kLaneIn / kPackSize<T>;
    total += group(lane);
    x += quad(lane);
#pragma unroll 2
    for (unsigned row = 0; row < kOuterRows; ++row, total += total_stride, x += x_stride) {
      Packed<T> a[out_packs], b[in_packs];
#pragma unroll
      for (int j = 0; j < out_packs; ++j) a[j] = total[8 * j];
#pragma unroll
      for (int j = 0; j < in_packs; ++j) b[j] = x[4 * j];
#pragma unroll
      for (int i = 0; i < 4 * out_blocks; ++i) {
#pragma unroll
        for (unsigned e = 0; e < kLaneIn; ++e) {
          sums[i][e] += a[i / kPackSize<T>].item[i % kPackSize<T>] * b[e / kPackSize<T>].item[e % kPackSize<T>];
        }
      }
    }
  }
};

// The channels are dealt to the fragments so that each lane reads and ends up with whole packs.
template <Precision precision, int out_blocks_>
struct OuterTensorCores {
  using Item = float;
  static constexpr int out_blocks = out_blocks_;
  using Sums = float[4 * out_blocks][kLaneIn];
  static __device__ unsigned out_channel(unsigned lane, unsigned i) { return i / 4 * 32 + lane / 4 * 4 + i % 4; }
  static __device__ unsigned in_channel(unsigned lane, unsigned e) { return lane % 4 * kLaneIn + e; }
  // The four lanes of a group read rows 4n..4n+3: the exclusive or puts these into different banks.
  static __device__ unsigned place(unsigned row, unsigned pack) { return pack ^ (row & 3) << 1; }

  static __device__ void add_rows(Sums& sums, const Packed<float>* total, unsigned total_stride, const Packed<float>* x,
                                  unsigned x_stride, unsigned lane) {
    const unsigned group = lane / 4, quad = lane % 4;
    const unsigned column = place(quad, group);
    // Rows quad, quad + 4, ...: the depth in the order of the fragments.
    Packed<float> rows[4];
#pragma unroll
    for (unsigned r = 0; r < 4; ++r) rows[r] = x[(quad + 4 * r) * x_stride + column];
    unsigned b[4][products][2];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
#pragma unroll
      for (int p = 0; p < products; ++p) {
#pragma unroll
        for (int h = 0; h < 2; ++h) b[e][p][h] = factor(rows, p, h, e);
      }
    }
#pragma unroll
    for (int block = 0; block < out_blocks; ++block) {
#pragma unroll
      for (unsigned r = 0; r < 4; ++r) rows[r] = total[(quad + 4 * r) * total_stride + 8 * block + column];
#pragma unroll
      for (int i = 0; i < 4; i += 2) {  // two channels out, the upper and the lower half of a fragment
        float* const first = sums[4 * block + i];
        float* const second = sums[4 * block + i + 1];
#pragma unroll
        for (int p = 0; p < products; ++p) {
          const unsigned a[4] = {factor(rows, p, 0, i), factor(rows, p, 0, i + 1), factor(rows, p, 1, i),
                                 factor(rows, p, 1, i + 1)};
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            float c[4] = {first[e], first[4 + e], second[e], second[4 + e]};
            if (precision == Precision::kTf32) {
              multiply_tf32(c, a, b[e][p]);
            } else {
              multiply_bfloat16(c, a, b[e][p]);
            }
            first[e] = c[0], first[4 + e] = c[1], second[e] = c[2], second[4 + e] = c[3];
          }
        }
      }
    }
  }

 private:
  static constexpr int products = precision == Precision::kTf32 ? 2 : 1;  // for 16 rows

  // Register h of product p's fragment, for one channel.
  static __device__ unsigned factor(const Packed<float> (&rows)[4], int p, int h, int channel) {
    if (precision == Precision::kTf32) return to_tf32(rows[2 * p + h].item[channel]);
    return to_bfloat16_pair(rows[2 * h].item[channel], rows[2 * h + 1].item[channel]);
  }
};

}  // namespace dtnn::cuda
