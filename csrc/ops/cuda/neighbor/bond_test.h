// SPDX-License-Identifier: MIT
// The criterion for a bond, of core/neighbor_list.h, to the bit.
#pragma once

#include "../gpu.h"

namespace dtnn::cuda {

using Steps = int64_t[3];

// One atom's side of the criterion, in registers.
struct BondTest {
  double center[3];
  double cell[9];
  double squared_cutoff;

  __device__ BondTest(const double* cell_vectors, double cutoff, const double* position) {
    squared_cutoff = __dmul_rn(cutoff, cutoff);
#pragma unroll
    for (int x = 0; x < 3; ++x) center[x] = position[x];
#pragma unroll
    for (int k = 0; k < 9; ++k) cell[k] = cell_vectors[k];
  }

  // Each operation is rounded once, for any flags of the compiler.
  template <typename Step>
  __device__ __forceinline__ bool is_near(const double neighbor[3], const Step (&shift)[3]) const {
    const double s0 = static_cast<double>(shift[0]), s1 = static_cast<double>(shift[1]),
                 s2 = static_cast<double>(shift[2]);
    double squared[3];
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      const double along =
          __dadd_rn(__dadd_rn(__dmul_rn(s0, cell[x]), __dmul_rn(s1, cell[3 + x])), __dmul_rn(s2, cell[6 + x]));
      const double d = __dadd_rn(__dsub_rn(neighbor[x], center[x]), along);
      squared[x] = __dmul_rn(d, d);
    }
    return __dadd_rn(__dadd_rn(squared[0], squared[1]), squared[2]) < squared_cutoff;
  }
};

}  // namespace dtnn::cuda
