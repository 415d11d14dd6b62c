// SPDX-License-Identifier: MIT
#pragma once

#include "../gpu.h"

namespace dtnn::cuda {

// The crystal of an atom: the last one that begins at or before it. Null is for one crystal. Whatever `ptr` holds, the
// result is a crystal if there is one.
__device__ inline int64_t find_crystal(const int64_t* ptr, int64_t num_crystals, int64_t atom) {
  if (ptr == nullptr) return 0;
  int64_t low = 0, high = num_crystals;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (ptr[middle] <= atom) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace dtnn::cuda
