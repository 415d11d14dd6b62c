// SPDX-License-Identifier: MIT
// The tensor core products of csrc/ops/cuda/tensor_cores.h with shuffles: each lane gathers the row of a and the
// columns of b that its results need, from the lanes that PTX's fragment layout puts them in.
#pragma once

#include <cmath>

#include "cuda_emulation.h"
#include "sixteen_bits_emulation.h"

namespace cuda_emulation {

inline unsigned to_tf32(float value) {
  const unsigned bits = __float_as_uint(value);
  if (!std::isfinite(value)) return bits;
  return (bits + 0x1000u) & ~0x1fffu;  // half of the last kept bit, so that ties go away from 0
}

// The product of depth `depth`, whose factors fragment(register, lane, which) unpacks: c += sum_k a[row][k]
// b[k][column]. A register of a lane holds `per_register` consecutive k.
template <int per_register, typename Unpack>
void multiply_by_shuffles(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], Unpack unpack) {
  const unsigned group = lane() / 4, quad = lane() % 4;
  float sums[4] = {};
  for (int half = 0; half < 2; ++half) {  // k below and above the middle
    for (unsigned source = 0; source < 4; ++source) {
      unsigned row[2], column[2];
      for (int r = 0; r < 2; ++r) {
        row[r] = __shfl_sync(~0u, a[2 * half + r], static_cast<int>(4 * group + source));
        column[r] = __shfl_sync(~0u, b[half], static_cast<int>(4 * (2 * quad + r) + source));
      }
      for (int k = 0; k < per_register; ++k) {
        for (int i = 0; i < 4; ++i) sums[i] += unpack(row[i / 2], k) * unpack(column[i % 2], k);
      }
    }
  }
  for (int i = 0; i < 4; ++i) c[i] += sums[i];
}

// Bits below tf32's are not read by the hardware; a caller that forgot to round would get other results than here.
inline void multiply_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_by_shuffles<1>(c, a, b, [](unsigned bits, int) {
    if ((bits & 0x1fffu) != 0 && (bits >> 23 & 0xff) != 0xff)
      fail("a factor of a tf32 product was not rounded to tf32");
    return __uint_as_float(bits);
  });
}

inline void multiply_bfloat16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_by_shuffles<2>(c, a, b,
                          [](unsigned bits, int k) { return __uint_as_float(k == 0 ? bits << 16 : bits & ~0xffffu); });
}

}  // namespace cuda_emulation
