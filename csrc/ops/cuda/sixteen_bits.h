// SPDX-License-Identifier: MIT
// Numbers of 16 bits in memory. Arithmetic is float32's: `widen` is exact, `narrow` rounds to the nearest, ties to
// even.
#pragma once

#include "gpu.h"
#include "value_types.h"
#ifdef DTNN_EMULATE_CUDA
#include "sixteen_bits_emulation.h"
#endif

namespace dtnn::cuda {

__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ double widen(double value) { return value; }
__device__ __forceinline__ float widen(BFloat16 value) { return __uint_as_float(unsigned{value.bits} << 16); }
__device__ __forceinline__ float widen(Float16 value) {
#ifdef DTNN_EMULATE_CUDA
  return cuda_emulation::from_float16(value.bits);
#else
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#endif
}

__device__ __forceinline__ void narrow(float value, float& result) { result = value; }
__device__ __forceinline__ void narrow(double value, double& result) { result = value; }
__device__ __forceinline__ void narrow(float value, BFloat16& result) {
#ifdef DTNN_EMULATE_CUDA
  result.bits = static_cast<uint16_t>(cuda_emulation::to_bfloat16(value));
#else
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#endif
}
__device__ __forceinline__ void narrow(float value, Float16& result) {
#ifdef DTNN_EMULATE_CUDA
  result.bits = cuda_emulation::to_float16(value);
#else
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#endif
}

}  // namespace dtnn::cuda
