// SPDX-License-Identifier: MIT
// What the kernels of neighbor_list know of one crystal, and the criterion for a bond.
#pragma once

#include "../gpu.h"
#include "../neighbor_list.h"
#include "lattice.h"

namespace dtnn::cuda {

enum class NeighborSearchKind : int32_t {
  kDirect,  // all pairs of atoms, times the images that can be near
  kGrid,    // a grid of bins, for large crystals
};

constexpr int32_t kLargestShift = 0x7fffffff;

struct NeighborCrystal {
  double cell[9];
  double dual[3][3];
  double height[3];
  double rounding_length[3];
  double cutoff;
  double reach[3];  // in steps along the basis; bonds are no farther apart, rounding errors included
  int64_t first_atom;
  int64_t num_atoms;
  int32_t combination[3][3];
  bool periodic[3];
  bool keeps_cell;  // steps along the basis are shifts
  NeighborSearchKind search;

  // What the atoms say, as the bits of doubles >= 0, whose order is that of the numbers: the largest |r_i - r_0|_1,
  // and how far the coordinates reach below and above those of atom 0.
  unsigned long long farthest;
  unsigned long long below[3];
  unsigned long long above[3];

  // The grid, for NeighborSearchKind::kGrid.
  double lowest[3];         // coordinate where bin 0 begins
  double bins_per_unit[3];  // of the coordinate
  int32_t num_bins[3];
  int32_t bin_reach[3];  // bins to look at on either side
};

using Steps = int64_t[3];

__device__ inline bool has_fault(const NeighborBuffers& buffers) { return buffers.status[kFaultWord] != 0; }

__device__ inline void report_fault(const NeighborBuffers& buffers, int64_t crystal, NeighborFault fault) {
  const uint64_t word = ~(static_cast<uint64_t>(crystal) << 4 | static_cast<uint64_t>(fault));
  atomicMax(reinterpret_cast<unsigned long long*>(buffers.status + kFaultWord), static_cast<unsigned long long>(word));
}

// Steps along the basis as shifts along the cell vectors.
__device__ __forceinline__ void to_shift(const NeighborCrystal& crystal, const Steps& steps, Steps& shift) {
  if (crystal.keeps_cell) {
#pragma unroll
    for (int m = 0; m < 3; ++m) shift[m] = steps[m];
    return;
  }
#pragma unroll
  for (int m = 0; m < 3; ++m) {
    shift[m] = steps[0] * crystal.combination[0][m] + steps[1] * crystal.combination[1][m] +
               steps[2] * crystal.combination[2][m];
  }
}

// One atom's side of the criterion, in registers.
struct BondTest {
  double center[3];
  double cell[9];
  double squared_cutoff;

  __device__ BondTest(const NeighborCrystal& crystal, const double* position) {
    squared_cutoff = __dmul_rn(crystal.cutoff, crystal.cutoff);
#pragma unroll
    for (int x = 0; x < 3; ++x) center[x] = position[x];
#pragma unroll
    for (int k = 0; k < 9; ++k) cell[k] = crystal.cell[k];
  }

  // The contract's criterion, to the bit: each operation rounded once, whatever the compiler's flags.
  __device__ __forceinline__ bool is_near(const double neighbor[3], const Steps& shift) const {
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

// Whether the list holds the bond (i, j, shift), in atoms of one crystal.
__device__ __forceinline__ bool is_bond(const NeighborListArgs& args, const BondTest& test, int64_t i, int64_t j,
                                        const double neighbor[3], const Steps& shift) {
  if (i == j) {
    const int64_t first = shift[0] != 0 ? shift[0] : shift[1] != 0 ? shift[1] : shift[2];
    if (first == 0) return args.self_pairs;
    if (args.half && first < 0) return false;
  } else if (args.half && j < i) {
    return false;
  }
  return test.is_near(neighbor, shift);
}

__device__ inline bool fits_int32(const Steps& shift) {
  bool fits = true;
#pragma unroll
  for (int m = 0; m < 3; ++m) fits &= shift[m] >= -int64_t{kLargestShift} && shift[m] <= kLargestShift;
  return fits;
}

}  // namespace dtnn::cuda
