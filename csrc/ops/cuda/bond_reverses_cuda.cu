// SPDX-License-Identifier: MIT
// A thread for each bond, which looks for the reverse in the neighbor's row by bisection: rows are sorted and short.
#include "bond_reverses.h"
#include "gpu.h"

namespace dtnn::cuda {
namespace {

constexpr int kThreads = 256;

// A bond's place in its row's order. Shifts in 64 bits, where -(-2^31) is a number.
struct Place {
  int64_t neighbor;
  int64_t shift[3];
};

__device__ __forceinline__ Place place_of(const BondReversesArgs& args, int64_t bond) {
  const int32_t* const shift = args.shifts + 3 * bond;
  return {args.neighbors[bond], {shift[0], shift[1], shift[2]}};
}

__device__ __forceinline__ bool comes_before(const Place& a, const Place& b) {
  if (a.neighbor != b.neighbor) return a.neighbor < b.neighbor;
  if (a.shift[0] != b.shift[0]) return a.shift[0] < b.shift[0];
  if (a.shift[1] != b.shift[1]) return a.shift[1] < b.shift[1];
  return a.shift[2] < b.shift[2];
}

// The reverse of a bond, or -1 when something is wrong with the bond or there is none.
__device__ int64_t find_reverse(const BondReversesArgs& args, int64_t bond) {
  const int64_t center = args.centers[bond];
  const Place place = place_of(args, bond);
  if (center < 0 || center >= args.num_atoms || place.neighbor < 0 || place.neighbor >= args.num_atoms) return -1;
  const int64_t row_begin = args.row_ptr[center];
  if (row_begin < 0 || bond < row_begin || bond >= args.row_ptr[center + 1]) return -1;
  if (bond > row_begin && !comes_before(place_of(args, bond - 1), place)) return -1;

  const Place wanted{center, {-place.shift[0], -place.shift[1], -place.shift[2]}};
  int64_t low = args.row_ptr[place.neighbor], high = args.row_ptr[place.neighbor + 1];
  if (low < 0 || high > args.num_bonds) return -1;
  while (low < high) {  // the first bond of the row that does not come before the reverse
    const int64_t middle = low + (high - low) / 2;
    if (comes_before(place_of(args, middle), wanted)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low >= args.row_ptr[place.neighbor + 1] || comes_before(wanted, place_of(args, low))) return -1;
  return low;
}

__global__ void __launch_bounds__(kThreads) find_reverses(BondReversesArgs args) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, stride = int64_t{gridDim.x} * kThreads;
  bool good = true;
  for (int64_t atom = thread; atom < args.num_atoms; atom += stride) {
    good &= args.row_ptr[atom] <= args.row_ptr[atom + 1];
  }
  if (thread == 0) good &= args.row_ptr[0] == 0 && args.row_ptr[args.num_atoms] == args.num_bonds;
  for (int64_t bond = thread; bond < args.num_bonds; bond += stride) {
    const int64_t reverse = find_reverse(args, bond);
    good &= reverse >= 0;
    args.reverses[bond] = reverse;
  }
  if (!good) *args.bad = 1;
}

}  // namespace

const char* launch_bond_reverses(const BondReversesArgs& args, void* stream) {
  cudaMemsetAsync(args.bad, 0, sizeof(int64_t), static_cast<cudaStream_t>(stream));
  const int64_t work = args.num_bonds > args.num_atoms ? args.num_bonds : args.num_atoms;
  const unsigned blocks = grid_size(work > 0 ? (work + kThreads - 1) / kThreads : 1);
  DTNN_LAUNCH(find_reverses, blocks, kThreads, 0, stream, args);
  return launch_error();
}

}  // namespace dtnn::cuda
