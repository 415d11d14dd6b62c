// SPDX-License-Identifier: MIT
// Arithmetic that nvcc does not contract into fused multiply-adds: for results that are to have the bits of the CPU's.
#pragma once

#include "gpu.h"

namespace dtnn::cuda {

__device__ __forceinline__ float times(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double times(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double plus(double a, double b) { return __dadd_rn(a, b); }

}  // namespace dtnn::cuda
