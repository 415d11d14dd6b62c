// SPDX-License-Identifier: MIT
// Checks and describes each crystal for the search: small crystals by one warp each; large ones in three steps, so that
// the whole GPU works on their atoms.
#include "gpu.h"
#include "neighbor/device_crystal.h"
#include "neighbor/find_crystal.h"
#include "neighbor/prepare_search.h"
#include "neighbor/warp.h"
#include "neighbor_list.h"

namespace dtnn::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kMeasureThreads = 256;

// As in core/neighbor_list.cpp: rounding errors stay below this times the lengths involved.
constexpr double kRelativeTolerance = 1e-13;
constexpr double kMostCellsApart = 1e9;
constexpr double kMostSteps = 1073741824;  // 2^30: with the cells apart, steps fit into int32
// Bins a cutoff is wide. The points of a row of bins along the last direction are contiguous, so fine bins cost little
// there and cut the ends off.
__device__ double bins_per_cutoff(int k) { return k < 2 ? 2 : 4; }

// The extent of one or several atoms: see NeighborCrystal.
struct Extent {
  double farthest = 0;
  double below[3] = {0, 0, 0};
  double above[3] = {0, 0, 0};
  bool finite = true;

  __device__ void include(const NeighborCrystal& crystal, const double* origin, const double* position) {
    double r[3];
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      finite &= isfinite(position[x]) != 0;
      r[x] = position[x] - origin[x];
    }
    farthest = fmax(farthest, fabs(r[0]) + fabs(r[1]) + fabs(r[2]));
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      const double coordinate = dot(crystal.dual[k], r);
      below[k] = fmax(below[k], -coordinate);
      above[k] = fmax(above[k], coordinate);
    }
  }

  __device__ void merge_warp() {
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      farthest = fmax(farthest, __shfl_xor_sync(kAllLanes, farthest, offset));
#pragma unroll
      for (int k = 0; k < 3; ++k) {
        below[k] = fmax(below[k], __shfl_xor_sync(kAllLanes, below[k], offset));
        above[k] = fmax(above[k], __shfl_xor_sync(kAllLanes, above[k], offset));
      }
    }
    finite = __all_sync(kAllLanes, finite) != 0;
  }

  // The bits of doubles >= 0 have the order of the numbers. Most atoms change nothing, and a read is cheaper than an
  // atomic; an outdated value only costs a needless one.
  __device__ static void raise(unsigned long long* place, double value) {
    const unsigned long long bits = static_cast<unsigned long long>(__double_as_longlong(value));
    if (bits > *place) atomicMax(place, bits);
  }
  // For the only thread that writes to the crystal.
  __device__ void put(NeighborCrystal& crystal) const {
    const auto bits = [](double value) { return static_cast<unsigned long long>(__double_as_longlong(value)); };
    crystal.farthest = bits(farthest);
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      crystal.below[k] = bits(below[k]);
      crystal.above[k] = bits(above[k]);
    }
  }
  __device__ void store(NeighborCrystal& crystal) const {
    raise(&crystal.farthest, farthest);
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      raise(&crystal.below[k], below[k]);
      raise(&crystal.above[k], above[k]);
    }
  }
};

__device__ double number(unsigned long long bits) { return __longlong_as_double(static_cast<long long>(bits)); }

// The steps s along basis vectors of these lengths with |s_k| <= radius / (n length_k) are all inside the sphere, so
// there are at least this many translations.
__device__ double least_translations(const bool periodic[3], const double lengths[3], int n, double radius) {
  double count = 1;
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    if (periodic[k] && radius > 0) count *= 2 * floor(radius / (n * lengths[k])) + 1;
  }
  return count;
}

// A lower bound of the number of bonds. `range` is the cutoff with its rounding errors: far-out atoms whose
// rounding errors reach other cells would make the search as long as the list.
__device__ double least_bonds(const NeighborListArgs& args, const NeighborCrystal& crystal, double range) {
  int n = 0;
  double lengths[3], half_diagonal = 0;
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    double vector[3] = {0, 0, 0};
#pragma unroll
    for (int m = 0; m < 3; ++m) {
#pragma unroll
      for (int x = 0; x < 3; ++x) {
        if (crystal.combination[k][m] != 0) vector[x] += crystal.combination[k][m] * crystal.cell[3 * m + x];
      }
    }
    lengths[k] = length(vector);
    n += crystal.periodic[k];
    half_diagonal += 0.5 * lengths[k];
  }
  const double atoms = static_cast<double>(crystal.num_atoms);
  const double to_images = atoms * (least_translations(crystal.periodic, lengths, n, range) - 1);
  const double to_all =
      n < 3 ? 0 : atoms * (atoms * least_translations(crystal.periodic, lengths, n, range - half_diagonal) - 1);
  return (args.half ? 0.5 : 1.0) * fmax(to_images, to_all);
}

// Bins for a large crystal, if they save work.
__device__ void plan_grid(NeighborCrystal& crystal, double range) {
  const double atoms = static_cast<double>(crystal.num_atoms);
  double wanted[3], spans[3], product = 1, images = 1, scanned = 1;
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    const double below = -number(crystal.below[k]);
    const double span = number(crystal.above[k]) - below;
    const double extent = crystal.periodic[k] ? crystal.height[k] : span;
    const double width = range * (2 + 1 / bins_per_cutoff(k));
    if (crystal.periodic[k]) images *= 2 * crystal.reach[k] + 1;
    scanned *= crystal.periodic[k] || width < extent ? width / extent : 1;
    crystal.lowest[k] = crystal.periodic[k] ? 0 : below;
    spans[k] = crystal.periodic[k] ? 1 : fmax(span, 1e-300);
    wanted[k] = fmax(1.0, fmin(floor(bins_per_cutoff(k) * extent / fmax(range, 1e-300)), atoms));
    product *= wanted[k];
  }
  // The direct search tests all images of all atoms; the grid's candidates cost more each, and sorting.
  crystal.search = 4 * scanned < images ? NeighborSearchMethod::kGrid : NeighborSearchMethod::kDirect;
  while (product > atoms) {
    const int most = wanted[0] >= wanted[1] && wanted[0] >= wanted[2] ? 0 : wanted[1] >= wanted[2] ? 1 : 2;
    product = 1;
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      if (k == most) wanted[k] = fmax(1.0, floor(wanted[k] / 2));
      product *= wanted[k];
    }
  }
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    crystal.num_bins[k] = static_cast<int32_t>(wanted[k]);
    crystal.bins_per_unit[k] = wanted[k] / spans[k];
    // Two atoms in range are at most this many bins apart; the factor covers rounding errors of their coordinates.
    const double reach = floor(range / crystal.height[k] * crystal.bins_per_unit[k] * (1 + 1e-6)) + 1;
    crystal.bin_reach[k] = static_cast<int32_t>(fmin(reach, crystal.periodic[k] ? kMostSteps : wanted[k]));
  }
}

// Completes the description from the extent of the atoms; by one thread.
__device__ void finish_crystal(const NeighborListArgs& args, const NeighborBuffers& buffers, int64_t index) {
  NeighborCrystal& crystal = buffers.crystals[index];
  double lengths = number(crystal.farthest) + crystal.cutoff;
  bool fits = true;
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    if (!crystal.periodic[k]) continue;
    const double cells_apart = number(crystal.below[k]) + number(crystal.above[k]);
    fits &= cells_apart < kMostCellsApart;
    lengths += crystal.rounding_length[k] * (2 + cells_apart + crystal.cutoff / crystal.height[k]);
  }
  const double range = crystal.cutoff + 2 * kRelativeTolerance * lengths;
  bool one_image = true;
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    // The range holds the tolerance; a millionth of a step is for coordinates of up to 10^9 cells.
    crystal.reach[k] = crystal.periodic[k] ? range / crystal.height[k] * (1 + 1e-6) + 1e-6 : 0;
    one_image &= 2 * crystal.reach[k] < 1;
  }
  crystal.one_image = one_image;
  if (!fits || !isfinite(lengths)) return report_fault(buffers, index, NeighborFault::kCrystal);

  const double bonds = least_bonds(args, crystal, range);
  bool many = !(bonds <= kMostNeighborBonds);
  if (!many && bonds > 1e6) {  // smaller ones do not matter in the sum over a batch that fits into memory
    unsigned long long* const sum = reinterpret_cast<unsigned long long*>(buffers.status + kLeastBonds);
    const unsigned long long before = atomicAdd(sum, static_cast<unsigned long long>(bonds));
    many = static_cast<double>(before) + bonds > kMostNeighborBonds;
  }
  if (many) return report_fault(buffers, index, NeighborFault::kManyBonds);
#pragma unroll
  for (int k = 0; k < 3; ++k) fits &= crystal.reach[k] < kMostSteps;
  if (!fits) return report_fault(buffers, index, NeighborFault::kShift);
  crystal.search = NeighborSearchMethod::kDirect;
  if (crystal.num_atoms >= kLargeCrystal) plan_grid(crystal, range);
}

// Describes the crystal without its atoms; false when its values are bad.
__device__ bool describe(const NeighborListArgs& args, int64_t index, int64_t first_atom, int64_t num_atoms,
                         NeighborCrystal& crystal) {
  const double* const cell = args.cells + (args.shared_cell ? 0 : 9 * index);
  const bool* const pbc = args.pbc + (args.shared_pbc ? 0 : 3 * index);
  bool periodic[3];
  const double cutoff = args.cutoffs == nullptr ? args.cutoff : args.cutoffs[index];
  bool valid = cutoff >= 0 && isfinite(cutoff);
#pragma unroll
  for (int k = 0; k < 9; ++k) valid &= isfinite(cell[k]) != 0;
#pragma unroll
  for (int k = 0; k < 3; ++k) periodic[k] = pbc[k];
  Lattice lattice;
  if (!valid || !make_lattice(cell, periodic, lattice)) return false;

  crystal.cutoff = cutoff;
  crystal.first_atom = first_atom;
  crystal.num_atoms = num_atoms;
  crystal.keeps_cell = lattice.keeps_cell;
  crystal.farthest = 0;
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    crystal.periodic[k] = periodic[k];
    crystal.height[k] = lattice.height[k];
    crystal.rounding_length[k] = lattice.rounding_length[k];
    crystal.below[k] = crystal.above[k] = 0;
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      crystal.cell[3 * k + x] = cell[3 * k + x];
      crystal.dual[k][x] = lattice.dual[k][x];
      crystal.combination[k][x] = static_cast<int32_t>(lattice.combination[k][x]);
    }
  }
  return true;
}

// One warp for each crystal.
__global__ void __launch_bounds__(kThreads, 1)
    describe_crystals(NeighborListArgs args, NeighborBuffers buffers, bool with_large) {
  const int lane = lane_index();
  if (args.num_crystals == 0 && lane == 0 && (args.num_atoms != 0 || args.ptr[0] != 0)) {
    report_fault(buffers, 0, NeighborFault::kPtr);
  }
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t index = int64_t{blockIdx.x} * kWarps + warp_index(); index < args.num_crystals; index += stride) {
    const int64_t begin = args.ptr == nullptr ? 0 : args.ptr[index];
    const int64_t end = args.ptr == nullptr ? args.num_atoms : args.ptr[index + 1];
    const bool in_order = begin >= 0 && begin <= end && end <= args.num_atoms && (index > 0 || begin == 0) &&
                          (index + 1 < args.num_crystals || end == args.num_atoms);
    const bool large = end - begin >= kLargeCrystal;
    NeighborCrystal& crystal = buffers.crystals[index];
    NeighborFault fault = NeighborFault::kNone;
    if (lane == 0) {
      if (!in_order) {
        fault = NeighborFault::kPtr;
      } else if (!describe(args, index, begin, end - begin, crystal)) {
        fault = NeighborFault::kCrystal;
      } else if (large && !with_large) {
        fault = NeighborFault::kNeedsGrid;
      }
      if (fault != NeighborFault::kNone) report_fault(buffers, index, fault);
    }
    __syncwarp();  // what lane 0 has written is read by all
    if (__any_sync(kAllLanes, fault != NeighborFault::kNone) || large) continue;
    Extent extent;
    for (int64_t atom = begin + lane; atom < end; atom += kWarp) {
      extent.include(crystal, args.positions + 3 * begin, args.positions + 3 * atom);
      buffers.crystal_of_atom[atom] = static_cast<int32_t>(index);
    }
    extent.merge_warp();
    if (lane != 0) continue;
    if (extent.finite) {
      extent.put(crystal);
      finish_crystal(args, buffers, index);
    } else {
      report_fault(buffers, index, NeighborFault::kCrystal);
    }
  }
}

// The extent of large crystals, by one thread for each atom.
__global__ void __launch_bounds__(kMeasureThreads) measure_crystals(NeighborListArgs args, NeighborBuffers buffers) {
  if (has_fault(buffers)) return;
  const int64_t stride = int64_t{gridDim.x} * kMeasureThreads;
  for (int64_t first = int64_t{blockIdx.x} * kMeasureThreads; first < args.num_atoms; first += stride) {
    const int64_t atom = first + threadIdx.x;
    const int64_t index = atom < args.num_atoms ? find_crystal(args.ptr, args.num_crystals, atom) : -1;
    const bool large = index >= 0 && buffers.crystals[index].num_atoms >= kLargeCrystal;
    Extent extent;
    if (large) {
      const NeighborCrystal& crystal = buffers.crystals[index];
      extent.include(crystal, args.positions + 3 * crystal.first_atom, args.positions + 3 * atom);
      buffers.crystal_of_atom[atom] = static_cast<int32_t>(index);
      if (!extent.finite) report_fault(buffers, index, NeighborFault::kCrystal);
    }
    const int64_t of_lane_0 = __shfl_sync(kAllLanes, index, 0);
    if (__all_sync(kAllLanes, index == of_lane_0 && large)) {
      extent.merge_warp();
      if (lane_index() == 0) extent.store(buffers.crystals[index]);
    } else if (large) {
      extent.store(buffers.crystals[index]);
    }
  }
}

__global__ void __launch_bounds__(kThreads) finish_large_crystals(NeighborListArgs args, NeighborBuffers buffers) {
  if (has_fault(buffers)) return;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x; index < args.num_crystals; index += stride) {
    if (buffers.crystals[index].num_atoms >= kLargeCrystal) finish_crystal(args, buffers, index);
  }
}

unsigned blocks_of(int64_t work, int64_t per_block) { return grid_size((work + per_block - 1) / per_block); }

}  // namespace

int64_t neighbor_crystal_bytes() { return sizeof(NeighborCrystal); }

const char* launch_describe_crystals(const NeighborListArgs& args, const NeighborBuffers& buffers, bool with_large,
                                     void* stream) {
  const unsigned blocks = blocks_of(args.num_crystals > 0 ? args.num_crystals : 1, kWarps);
  DTNN_LAUNCH(describe_crystals, blocks, kThreads, 0, stream, args, buffers, with_large);
  if (with_large && args.num_atoms > 0 && args.num_crystals > 0) {
    DTNN_LAUNCH(measure_crystals, blocks_of(args.num_atoms, kMeasureThreads), kMeasureThreads, 0, stream, args,
                buffers);
    DTNN_LAUNCH(finish_large_crystals, blocks_of(args.num_crystals, kThreads), kThreads, 0, stream, args, buffers);
  }
  return launch_error();
}

}  // namespace dtnn::cuda
