// SPDX-License-Identifier: MIT
// One crystal as the kernels of neighbor_list see it, and the test whether its list holds a bond.
#pragma once

#include "../gpu.h"
#include "../neighbor_list.h"
#include "bond_test.h"
#include "device_lattice.h"

namespace dtnn::cuda {

enum class NeighborSearchMethod : int32_t {
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
  bool one_image;   // 2 reach < 1 in every periodic direction: of each atom, at most one image can be near
  NeighborSearchMethod search;

  // The extent of the atoms, as the bits of doubles >= 0, which have the order of the numbers: the largest |r_i -
  // r_0|_1, and how far the coordinates reach below and above those of atom 0.
  unsigned long long farthest;
  unsigned long long below[3];
  unsigned long long above[3];

  // The grid, for NeighborSearchMethod::kGrid.
  double lowest[3];         // coordinate where bin 0 begins
  double bins_per_unit[3];  // of the coordinate
  int32_t num_bins[3];
  int32_t bin_reach[3];  // bins to look at on either side
};

// The same answer for all lanes of a warp, which must call it together, also while other warps report faults.
__device__ inline bool has_fault(const NeighborBuffers& buffers) {
  return __any_sync(0xffffffffu, buffers.status[kFaultWord] != 0) != 0;
}

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

template <typename Step>
__device__ __forceinline__ bool fits_int32(const Step (&shift)[3]) {
  bool fits = true;
#pragma unroll
  for (int m = 0; m < 3; ++m) fits &= shift[m] >= -Step{kLargestShift} && shift[m] <= Step{kLargestShift};
  return fits;
}

}  // namespace dtnn::cuda
