// SPDX-License-Identifier: MIT
// A warp for each atom, twice: once to count its bonds and once to write them. What each crystal needs is described by
// neighbor_crystals_cuda.cu, large ones get a grid by neighbor_grid_cuda.cu.
#include "gpu.h"
#include "neighbor/device_crystal.h"
#include "neighbor/find_candidates.h"
#include "neighbor/prepare_search.h"
#include "neighbor/sort_row.h"
#include "neighbor_list.h"

namespace dtnn::cuda {
namespace {

constexpr int kCountWarps = 4;
constexpr int kWriteWarps = 4;  // with the buffers for sorting, 21 KiB of shared memory a block
constexpr int kPadThreads = 256;

// The atom that a warp works on, or -1 when it is not one for this kind of search.
template <NeighborSearchMethod kMethod>
__device__ int64_t atom_of(const NeighborBuffers& buffers, int64_t num_atoms, int64_t number) {
  if (kMethod == NeighborSearchMethod::kGrid) {
    // In the order of the points: neighboring warps look at the same bins.
    return number < buffers.bin_start[num_atoms] ? buffers.point_home[4 * number + 3] : -1;
  }
  return buffers.crystals[buffers.crystal_of_atom[number]].search == NeighborSearchMethod::kDirect ? number : -1;
}

template <NeighborSearchMethod kMethod, typename Found>
__device__ __forceinline__ void search(const NeighborListArgs& args, const NeighborBuffers& buffers,
                                       const NeighborCrystal& crystal, int64_t atom, WarpSegments& segments,
                                       Found&& found) {
  if (kMethod == NeighborSearchMethod::kGrid) {
    search_grid(args, buffers, crystal, atom, segments, found);
  } else if (crystal.one_image) {
    search_one_image(args, crystal, atom, segments, found);
  } else {
    search_direct(args, crystal, atom, segments, found);
  }
}

template <NeighborSearchMethod kMethod>
__global__ void __launch_bounds__(kCountWarps* kWarp, kMethod == NeighborSearchMethod::kGrid ? 4 : 5)
    count_bonds(NeighborListArgs args, NeighborBuffers buffers, int64_t* row_ptr) {
  DTNN_SHARED_ARRAY(WarpSegments, segments, kCountWarps);
  if (has_fault(buffers)) return;
  const int64_t stride = int64_t{gridDim.x} * kCountWarps;
  for (int64_t number = int64_t{blockIdx.x} * kCountWarps + warp_index(); number < args.num_atoms; number += stride) {
    const int64_t atom = atom_of<kMethod>(buffers, args.num_atoms, number);
    if (atom < 0) continue;
    const int32_t index = buffers.crystal_of_atom[atom];
    const NeighborCrystal& crystal = buffers.crystals[index];
    int64_t count = 0;
    bool fits = true;
    search<kMethod>(args, buffers, crystal, atom, segments[warp_index()], [&](bool keep, int64_t, const auto& shift) {
      count += keep;
      fits &= !keep || fits_int32(shift);
    });
    count = warp_sum(count);
    if (lane_index() == 0) row_ptr[atom + 1] = count;
    if (!fits) report_fault(buffers, index, NeighborFault::kShift);
  }
}

template <NeighborSearchMethod kMethod>
__global__ void __launch_bounds__(kWriteWarps* kWarp, kMethod == NeighborSearchMethod::kGrid ? 4 : 5)
    write_bonds(NeighborListArgs args, NeighborBuffers buffers, NeighborOutput output) {
  using Buffer = RowBond[RowWriter::kBuffered];
  DTNN_SHARED_ARRAY(WarpSegments, segments, kWriteWarps);
  DTNN_SHARED_ARRAY(Buffer, sorting, kWriteWarps);
  if (has_fault(buffers) || buffers.status[kNumBonds] > output.capacity) return;
  const int64_t stride = int64_t{gridDim.x} * kWriteWarps;
  for (int64_t number = int64_t{blockIdx.x} * kWriteWarps + warp_index(); number < args.num_atoms; number += stride) {
    const int64_t atom = atom_of<kMethod>(buffers, args.num_atoms, number);
    if (atom < 0) continue;
    const NeighborCrystal& crystal = buffers.crystals[buffers.crystal_of_atom[atom]];
    const int64_t first_bond = output.row_ptr[atom], length = output.row_ptr[atom + 1] - first_bond;
    if (length == 0) continue;
    const bool ordered = kMethod == NeighborSearchMethod::kDirect && (crystal.keeps_cell || crystal.one_image);
    const OutputRow row{output, first_bond, static_cast<int32_t>(crystal.first_atom), static_cast<int32_t>(atom)};
    RowWriter writer(row, length, ordered, sorting[warp_index()]);
    search<kMethod>(args, buffers, crystal, atom, segments[warp_index()],
                    [&](bool keep, int64_t j, const auto& shift) { writer.add(keep, j, shift); });
    writer.finish();
  }
}

__global__ void __launch_bounds__(kPadThreads)
    pad_bonds(NeighborListArgs args, NeighborBuffers buffers, NeighborOutput output, FixedListState state) {
  const bool faulty = has_fault(buffers), overflows = !faulty && buffers.status[kNumBonds] > output.capacity;
  const bool is_complete = !faulty && !overflows;
  const int64_t num_bonds = is_complete ? buffers.status[kNumBonds] : 0;
  const int64_t thread = int64_t{blockIdx.x} * kPadThreads + threadIdx.x, stride = int64_t{gridDim.x} * kPadThreads;
  for (int64_t bond = num_bonds + thread; bond < output.capacity; bond += stride) {
    output.centers[bond] = args.num_atoms - 1;
    output.neighbors[bond] = args.num_atoms - 1;
#pragma unroll
    for (int m = 0; m < 3; ++m) output.shifts[3 * bond + m] = 0;
  }
  for (int64_t atom = thread; !is_complete && atom < args.num_atoms; atom += stride) output.row_ptr[atom] = 0;
  if (thread == 0) {
    output.row_ptr[args.num_atoms] = output.capacity;
    *state.num_bonds = faulty ? 0 : buffers.status[kNumBonds];
    *state.status = faulty ? kBadValues : overflows ? kOverflow : kComplete;
  }
}

unsigned blocks_of(int64_t work, int64_t per_block) { return grid_size((work + per_block - 1) / per_block); }

}  // namespace

const char* launch_neighbor_list_count(const NeighborListArgs& args, const NeighborBuffers& buffers, int64_t* row_ptr,
                                       bool with_large, void* stream) {
  cudaMemsetAsync(buffers.status, 0, kNumStatusWords * sizeof(int64_t), static_cast<cudaStream_t>(stream));
  const char* error = launch_describe_crystals(args, buffers, with_large, stream);
  if (error == nullptr && with_large) error = launch_sort_into_bins(args, buffers, stream);
  if (error != nullptr) return error;
  if (args.num_atoms > 0) {
    const unsigned blocks = blocks_of(args.num_atoms, kCountWarps), threads = kCountWarps * kWarp;
    DTNN_LAUNCH(count_bonds<NeighborSearchMethod::kDirect>, blocks, threads, 0, stream, args, buffers, row_ptr);
    if (with_large) {
      DTNN_LAUNCH(count_bonds<NeighborSearchMethod::kGrid>, blocks, threads, 0, stream, args, buffers, row_ptr);
    }
    error = launch_error();
    if (error != nullptr) return error;
  }
  return launch_counts_to_ptr(row_ptr, args.num_atoms, buffers.tile_sums, buffers.status + kNumBonds, stream);
}

const char* launch_neighbor_list_fill(const NeighborListArgs& args, const NeighborBuffers& buffers,
                                      const NeighborOutput& output, bool with_large, void* stream) {
  if (args.num_atoms == 0 || output.capacity == 0) return nullptr;
  const unsigned blocks = blocks_of(args.num_atoms, kWriteWarps), threads = kWriteWarps * kWarp;
  DTNN_LAUNCH(write_bonds<NeighborSearchMethod::kDirect>, blocks, threads, 0, stream, args, buffers, output);
  if (with_large) {
    DTNN_LAUNCH(write_bonds<NeighborSearchMethod::kGrid>, blocks, threads, 0, stream, args, buffers, output);
  }
  return launch_error();
}

const char* launch_neighbor_list_pad(const NeighborListArgs& args, const NeighborBuffers& buffers,
                                     const NeighborOutput& output, const FixedListState& state, void* stream) {
  const int64_t work = output.capacity > args.num_atoms ? output.capacity : args.num_atoms;
  const unsigned blocks = blocks_of(work > 0 ? work : 1, kPadThreads);
  DTNN_LAUNCH(pad_bonds, blocks, kPadThreads, 0, stream, args, buffers, output, state);
  return launch_error();
}

}  // namespace dtnn::cuda
