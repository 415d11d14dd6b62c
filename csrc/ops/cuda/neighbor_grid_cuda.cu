// SPDX-License-Identifier: MIT
// Counting sort of the atoms of large crystals into bins. The order within a bin is that of an atomic counter, which
// differs from run to run; the rows of the list are sorted afterwards, so the list does not.
#include "gpu.h"
#include "neighbor/device_crystal.h"
#include "neighbor/prepare_search.h"

namespace dtnn::cuda {
namespace {

constexpr int kThreads = 256;

// Takes each atom home into the reduced cell, and counts the atoms of each bin in bin_start[bin + 1].
__global__ void __launch_bounds__(kThreads) count_bins(NeighborListArgs args, NeighborBuffers buffers) {
  if (has_fault(buffers)) return;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t atom = int64_t{blockIdx.x} * kThreads + threadIdx.x; atom < args.num_atoms; atom += stride) {
    const NeighborCrystal& crystal = buffers.crystals[buffers.crystal_of_atom[atom]];
    if (crystal.search != NeighborSearchMethod::kGrid) continue;
    const double* const origin = args.positions + 3 * crystal.first_atom;
    double r[3];
#pragma unroll
    for (int x = 0; x < 3; ++x) r[x] = args.positions[3 * atom + x] - origin[x];
    int64_t flat = 0;
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      double coordinate = dot(crystal.dual[k], r);
      const double cells = crystal.periodic[k] ? floor(coordinate) : 0;
      coordinate -= cells;
      // Kept inside before it becomes an integer: rounding differs from that of the measured extent.
      const double bin = (coordinate - crystal.lowest[k]) * crystal.bins_per_unit[k];
      flat = flat * crystal.num_bins[k] + static_cast<int64_t>(fmin(fmax(bin, 0.0), crystal.num_bins[k] - 1.0));
      buffers.home[4 * atom + k] = static_cast<int32_t>(-cells);
    }
    buffers.home[4 * atom + 3] = static_cast<int32_t>(flat);
    unsigned long long* const count =
        reinterpret_cast<unsigned long long*>(buffers.bin_start + crystal.first_atom + flat + 1);
    buffers.rank_in_bin[atom] = static_cast<int32_t>(atomicAdd(count, 1ull));
  }
}

__global__ void __launch_bounds__(kThreads) place_points(NeighborListArgs args, NeighborBuffers buffers) {
  if (has_fault(buffers)) return;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t atom = int64_t{blockIdx.x} * kThreads + threadIdx.x; atom < args.num_atoms; atom += stride) {
    const NeighborCrystal& crystal = buffers.crystals[buffers.crystal_of_atom[atom]];
    if (crystal.search != NeighborSearchMethod::kGrid) continue;
    const int32_t* const home = buffers.home + 4 * atom;
    const int64_t point = buffers.bin_start[crystal.first_atom + home[3]] + buffers.rank_in_bin[atom];
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      buffers.point_position[3 * point + x] = args.positions[3 * atom + x];
      buffers.point_home[4 * point + x] = home[x];
    }
    buffers.point_home[4 * point + 3] = static_cast<int32_t>(atom);
  }
}

}  // namespace

const char* launch_sort_into_bins(const NeighborListArgs& args, const NeighborBuffers& buffers, void* stream) {
  const size_t bytes = (static_cast<size_t>(args.num_atoms) + 1) * sizeof(int64_t);
  cudaMemsetAsync(buffers.bin_start, 0, bytes, static_cast<cudaStream_t>(stream));
  if (args.num_atoms == 0) return launch_error();
  const unsigned blocks = grid_size((args.num_atoms + kThreads - 1) / kThreads);
  DTNN_LAUNCH(count_bins, blocks, kThreads, 0, stream, args, buffers);
  const char* const error = launch_counts_to_ptr(buffers.bin_start, args.num_atoms, buffers.tile_sums, nullptr, stream);
  if (error != nullptr) return error;
  DTNN_LAUNCH(place_points, blocks, kThreads, 0, stream, args, buffers);
  return launch_error();
}

}  // namespace dtnn::cuda
