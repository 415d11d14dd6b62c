// SPDX-License-Identifier: MIT
#pragma once

#include "gpu.h"

namespace dtnn::cuda {

// The sum over the lanes of a warp, in each lane.
template <typename T>
__device__ __forceinline__ T sum_of_lanes(T value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

}  // namespace dtnn::cuda
