// SPDX-License-Identifier: MIT
// Products of small matrices on tensor cores: out += a b with factors rounded to tf32 or bfloat16 and float32 sums.
// Lane l of a warp has group g = l / 4 and quad q = l % 4. As PTX lays the fragments out, out[16][8] is in each lane
//   c[0], c[1] = out[g][2q], out[g][2q + 1];   c[2], c[3] = out[g + 8][2q], out[g + 8][2q + 1].
// The emulation does the same with shuffles, and so tests the callers' layouts.
#pragma once

#include "gpu.h"
#ifdef DTNN_EMULATE_CUDA
#include "tensor_cores_emulation.h"
#endif

namespace dtnn::cuda {

// The nearest tf32 (10 bits of mantissa, ties away from 0), as the bits of a float.
__device__ __forceinline__ unsigned to_tf32(float value) {
#ifdef DTNN_EMULATE_CUDA
  return cuda_emulation::to_tf32(value);
#else
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
#endif
}

// The nearest bfloat16 (ties to even) of two numbers, the first in the low half.
__device__ __forceinline__ unsigned to_bfloat16_pair(float low, float high) {
#ifdef DTNN_EMULATE_CUDA
  return cuda_emulation::to_bfloat16(low) | cuda_emulation::to_bfloat16(high) << 16;
#else
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#endif
}

// Depth 8: a = {a[g][q], a[g + 8][q], a[g][q + 4], a[g + 8][q + 4]}, b = {b[q][g], b[q + 4][g]}.
__device__ __forceinline__ void multiply_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef DTNN_EMULATE_CUDA
  cuda_emulation::multiply_tf32(c, a, b);
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Depth 16, in pairs: a = {a[g][2q..], a[g + 8][2q..], a[g][2q + 8..], a[g + 8][2q + 8..]}, b = {b[2q..][g],
// b[2q + 8..][g]}.
__device__ __forceinline__ void multiply_bfloat16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef DTNN_EMULATE_CUDA
  cuda_emulation::multiply_bfloat16(c, a, b);
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

}  // namespace dtnn::cuda
