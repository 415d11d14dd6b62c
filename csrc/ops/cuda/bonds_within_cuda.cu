// SPDX-License-Identifier: MIT
// A warp for each row of the list, which keeps the order of its bonds by counting the lanes before.
#include "bonds_within.h"
#include "gpu.h"
#include "neighbor/bond_test.h"
#include "neighbor/find_crystal.h"
#include "neighbor/warp.h"
#include "neighbor_list.h"

namespace dtnn::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;

__device__ const double* cell_of(const BondsWithinArgs& args, int64_t crystal) {
  return args.cells + (args.shared_cell ? 0 : 9 * crystal);
}
__device__ double cutoff_of(const BondsWithinArgs& args, int64_t crystal) {
  return args.cutoffs == nullptr ? args.cutoff : args.cutoffs[crystal];
}

__device__ bool all_finite(const double* values, int count) {
  bool finite = true;
  for (int k = 0; k < count; ++k) finite &= isfinite(values[k]) != 0;
  return finite;
}

// What can be said of a crystal without its bonds; of no crystal at all, with index 0.
__device__ bool is_good_crystal(const BondsWithinArgs& args, int64_t index) {
  const int64_t last = args.num_crystals;
  if (args.ptr != nullptr) {
    if (index == 0 && (args.ptr[0] != 0 || args.ptr[last] != args.num_atoms)) return false;
    if (index < last && args.ptr[index] > args.ptr[index + 1]) return false;
  }
  if (index == last) return true;
  const double cutoff = cutoff_of(args, index);
  return cutoff >= 0 && isfinite(cutoff) && all_finite(cell_of(args, index), 9);
}

// Calls visit(keep, bond) for the bonds of a row, by all lanes of the warp together. Without `kChecked`, bonds that do
// not belong into the row make `good` false and are not kept.
template <bool kChecked, typename Visit>
__device__ __forceinline__ void visit_row(const BondsWithinArgs& args, int64_t atom, int64_t begin, int64_t end,
                                          bool& good, Visit&& visit) {
  const int64_t crystal = find_crystal(args.ptr, args.num_crystals, atom);
  const int64_t first_atom = args.ptr == nullptr ? 0 : args.ptr[crystal];
  const int64_t end_atom = args.ptr == nullptr ? args.num_atoms : args.ptr[crystal + 1];
  const BondTest test(cell_of(args, crystal), cutoff_of(args, crystal), args.positions + 3 * atom);
  for (int64_t first = begin; first < end; first += kWarp) {
    const int64_t bond = first + lane_index();
    bool keep = false;
    if (bond < end) {
      const int64_t neighbor = args.neighbors[bond];
      const bool belongs = kChecked || (args.centers[bond] == atom && neighbor >= first_atom && neighbor < end_atom &&
                                        neighbor >= 0 && neighbor < args.num_atoms);
      if (belongs) {
        const Steps shift = {args.shifts[3 * bond], args.shifts[3 * bond + 1], args.shifts[3 * bond + 2]};
        const bool is_self = neighbor == atom && (shift[0] | shift[1] | shift[2]) == 0;
        keep = is_self || test.is_near(args.positions + 3 * neighbor, shift);
      } else {
        good = false;
      }
    }
    visit(keep, bond);
  }
}

__global__ void __launch_bounds__(kThreads) count_within(BondsWithinArgs args, int64_t* status, int64_t* new_row_ptr) {
  bool good = true;
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t index = thread; index < args.num_crystals || index == 0; index += int64_t{gridDim.x} * kThreads) {
    good &= is_good_crystal(args, index);
  }
  if (thread == 0) good &= args.row_ptr[0] == 0 && args.row_ptr[args.num_atoms] == args.num_bonds;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  const int64_t num_atoms = args.num_crystals > 0 ? args.num_atoms : 0;
  for (int64_t atom = int64_t{blockIdx.x} * kWarps + warp_index(); atom < num_atoms; atom += stride) {
    const int64_t begin = args.row_ptr[atom], end = args.row_ptr[atom + 1];
    good &= all_finite(args.positions + 3 * atom, 3);
    int64_t count = 0;
    if (begin >= 0 && begin <= end && end <= args.num_bonds) {
      visit_row<false>(args, atom, begin, end, good, [&](bool keep, int64_t) { count += keep; });
      count = warp_sum(count);
    } else {
      good = false;
    }
    if (lane_index() == 0) new_row_ptr[atom + 1] = count;
  }
  if (!good) status[kBadWithin] = 1;
}

__global__ void __launch_bounds__(kThreads)
    write_within(BondsWithinArgs args, const int64_t* new_row_ptr, BondsWithinOutput output) {
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t atom = int64_t{blockIdx.x} * kWarps + warp_index(); atom < args.num_atoms; atom += stride) {
    int64_t next = new_row_ptr[atom];
    if (new_row_ptr[atom + 1] == next) continue;
    bool good = true;
    visit_row<true>(args, atom, args.row_ptr[atom], args.row_ptr[atom + 1], good, [&](bool keep, int64_t bond) {
      const unsigned kept = __ballot_sync(kAllLanes, keep);
      if (keep) {
        const int64_t place = next + __popc(kept & lanes_below());
        output.kept[place] = bond;
        output.centers[place] = atom;
        output.neighbors[place] = args.neighbors[bond];
#pragma unroll
        for (int m = 0; m < 3; ++m) output.shifts[3 * place + m] = args.shifts[3 * bond + m];
      }
      next += __popc(kept);
    });
  }
}

unsigned blocks_of(int64_t work, int64_t per_block) { return grid_size((work + per_block - 1) / per_block); }

}  // namespace

const char* launch_bonds_within_count(const BondsWithinArgs& args, int64_t* status, int64_t* new_row_ptr,
                                      int64_t* tile_sums, void* stream) {
  cudaMemsetAsync(status, 0, kNumWithinWords * sizeof(int64_t), static_cast<cudaStream_t>(stream));
  const unsigned blocks = blocks_of(args.num_atoms > 0 ? args.num_atoms : 1, kWarps);
  DTNN_LAUNCH(count_within, blocks, kThreads, 0, stream, args, status, new_row_ptr);
  const char* const error = launch_error();
  if (error != nullptr) return error;
  return launch_counts_to_ptr(new_row_ptr, args.num_atoms, tile_sums, status + kNumWithin, stream);
}

const char* launch_bonds_within_write(const BondsWithinArgs& args, const int64_t* new_row_ptr,
                                      const BondsWithinOutput& output, void* stream) {
  if (args.num_atoms == 0) return nullptr;
  DTNN_LAUNCH(write_within, blocks_of(args.num_atoms, kWarps), kThreads, 0, stream, args, new_row_ptr, output);
  return launch_error();
}

}  // namespace dtnn::cuda
