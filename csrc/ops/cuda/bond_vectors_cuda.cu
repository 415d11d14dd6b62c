// SPDX-License-Identifier: MIT
#include "bond_to_atom_sum.h"
#include "bond_vectors.h"
#include "crystals.h"
#include "rounded.h"
#include "segment_sums.h"

namespace dtnn::cuda {
namespace {

enum BondCheck : unsigned { kCenter = kPtrChecks, kNeighbor, kTwoCrystals };

const char* const kTexts[] = {
    DTNN_PTR_TEXTS,
    "expected `pairs` with atoms in [0, %N), got an index outside: %V at pairs[0, %P]",
    "expected `pairs` with atoms in [0, %N), got an index outside: %V at pairs[1, %P]",
    "expected `pairs` with both ends in one crystal of `ptr`, got a bond between two: %V at pairs[1, %P]",
};

constexpr unsigned kBonds = 256;  // of a block at a time, one per thread

__device__ __forceinline__ bool is_atom(int64_t index, int64_t num_atoms) {
  return static_cast<uint64_t>(index) < static_cast<uint64_t>(num_atoms);
}

// Whether both ends of a bond are atoms.
__device__ __forceinline__ bool joins_atoms(int64_t num_atoms, int64_t bond, int64_t center, int64_t neighbor,
                                            BadIndex& bad) {
  if (!is_atom(center, num_atoms)) {
    bad.see(kCenter, bond, center);
    return false;
  }
  if (!is_atom(neighbor, num_atoms)) {
    bad.see(kNeighbor, bond, neighbor);
    return false;
  }
  return true;
}

// The crystal of a bond, -1 where an index is bad. Bonds are sorted by center as a rule, so the crystals of a block's
// bonds are those from `low` to `high`, mostly one or two.
__device__ __forceinline__ int64_t crystal_of(const Crystals& crystals, int64_t low, int64_t high, int64_t bond,
                                              int64_t center, int64_t neighbor, BadIndex& bad) {
  if (!joins_atoms(crystals.num_atoms, bond, center, neighbor, bad)) return -1;
  int64_t crystal = crystals.find(center, low, high + 1);
  if (!crystals.owns(crystal, center)) crystal = crystals.find(center, 0, crystals.num_crystals);
  if (!crystals.owns(crystal, center)) return -1;  // ptr is wrong, which is reported elsewhere
  if (crystals.owns(crystal, neighbor)) return crystal;
  bad.see(kTwoCrystals, bond, neighbor);
  return -1;
}

// First a thread per bond: its ends, and its crystal. Then a thread per component of a vector, so that the three of a
// position are read, and the vectors written, by neighboring threads.
template <typename T>
__global__ void __launch_bounds__(kBonds) fill_vectors(BondVectorsArgs<T> args, Crystals crystals) {
  DTNN_SHARED_ARRAY(int64_t, center, kBonds);
  DTNN_SHARED_ARRAY(int64_t, neighbor, kBonds);
  DTNN_SHARED_ARRAY(int64_t, crystal, kBonds);
  DTNN_SHARED_ARRAY(int32_t, shift, 3 * kBonds);
  DTNN_SHARED_ARRAY(int64_t, range, 2);
  BadIndex bad;
  const int64_t thread = int64_t{blockIdx.x} * kBonds + threadIdx.x;
  for (int64_t c = thread; c < crystals.num_crystals; c += int64_t{gridDim.x} * kBonds) crystals.check(c, bad);

  const int64_t stride = int64_t{gridDim.x} * kBonds;
  for (int64_t first = int64_t{blockIdx.x} * kBonds; first < args.num_bonds; first += stride) {
    const int64_t bonds_left = args.num_bonds - first;
    const unsigned bonds = bonds_left < kBonds ? static_cast<unsigned>(bonds_left) : kBonds;
    const unsigned t = threadIdx.x;
    const bool has_bond = t < bonds;
    const int64_t i = has_bond ? args.pairs[first + t] : 0;
    const int64_t j = has_bond ? args.pairs[args.num_bonds + first + t] : 0;
#pragma unroll
    for (unsigned k = 0; k < 3; ++k) {
      const unsigned number = t + k * kBonds;
      if (number < 3 * bonds) shift[number] = args.shifts[3 * first + number];
    }
    if (t == 0) range[0] = crystals.find(i, 0, crystals.num_crystals);
    if (t == bonds - 1) range[1] = crystals.find(i, 0, crystals.num_crystals);
    __syncthreads();
    if (has_bond) {
      const int64_t low = range[0] < range[1] ? range[0] : range[1];
      const int64_t high = range[0] < range[1] ? range[1] : range[0];
      center[t] = i;
      neighbor[t] = j;
      crystal[t] = crystal_of(crystals, low, high, first + t, i, j, bad);
    }
    __syncthreads();
#pragma unroll
    for (unsigned k = 0; k < 3; ++k) {
      const unsigned number = t + k * kBonds;
      if (number >= 3 * bonds) break;
      const unsigned bond = number / 3, component = number % 3;
      T vector = not_a_number<T>();
      if (crystal[bond] >= 0) {
        const T* const abc = args.cell + 9 * crystal[bond] + component;
        const int32_t* const s = shift + 3 * bond;
        const T translation = plus(plus(times(static_cast<T>(s[0]), abc[0]), times(static_cast<T>(s[1]), abc[3])),
                                   times(static_cast<T>(s[2]), abc[6]));
        const T from = args.positions[3 * center[bond] + component];
        const T to = args.positions[3 * neighbor[bond] + component];
        vector = plus(plus(to, -from), translation);
      }
      args.vectors[3 * first + number] = vector;
    }
    __syncthreads();  // before the next bonds overwrite these
  }
  bad.report(args.errors);
}

// grad_cell as sums over the bonds of each crystal, whose bonds are contiguous.
template <typename T>
struct CellSums {
  static constexpr int kNumbers = 9;
  const T* grad;
  const int64_t* pairs;
  const int32_t* shifts;
  const int64_t* row_ptr;
  T* grad_cell;
  Crystals crystals;
  int64_t num_rows;
  int64_t num_segments;
  unsigned rows_per_tile;
  ErrorSink errors;

  // The first bond of a crystal, or the number of bonds, wherever the index arrays point.
  __device__ __forceinline__ int64_t first_bond(int64_t crystal) const {
    const int64_t atom = crystals.begin(crystal);
    return row_ptr[atom < 0 ? 0 : atom > crystals.num_atoms ? crystals.num_atoms : atom];
  }

  __device__ __forceinline__ Segment segment_of(int64_t bond) const {
    int64_t low = 0, high = num_segments;
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      if (first_bond(middle) <= bond) {
        low = middle;
      } else {
        high = middle;
      }
    }
    const Segment found{low, first_bond(low), first_bond(low + 1)};
    if (found.begin < 0 || found.begin > bond || found.end <= bond || found.end > num_rows) return {-1, bond, bond + 1};
    return found;
  }

  // What is wrong with row_ptr is reported by the sums over the bonds of each atom.
  __device__ __forceinline__ bool segment(int64_t index, Segment& segment, BadIndex& bad) const {
    if (!crystals.check(index, bad)) return false;
    segment = {index, first_bond(index), first_bond(index + 1)};
    return segment.begin >= 0 && segment.begin <= segment.end && segment.end <= num_rows;
  }

  __device__ __forceinline__ unsigned items(unsigned bonds) const { return bonds; }

  __device__ __forceinline__ void add(const Segment& segment, int64_t first, unsigned item, bool counts,
                                      double (&sums)[9], BadIndex& bad) const {
    const int64_t bond = first + item;
    const int64_t center = pairs[bond], neighbor = pairs[num_rows + bond];
    T g[3];
    int32_t s[3];
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      g[k] = grad[3 * bond + k];
      s[k] = shifts[3 * bond + k];
    }
    __syncwarp();  // ptxas would load these after the checks of the ends, which wait for two loads in sequence
    if (!counts) return;
    if (!joins_atoms(crystals.num_atoms, bond, center, neighbor, bad)) {
      sums[0] = not_a_number<double>();
    } else if (crystals.owns(segment.index, center) && !crystals.owns(segment.index, neighbor)) {
      bad.see(kTwoCrystals, bond, neighbor);
      sums[0] = not_a_number<double>();
    }
#pragma unroll
    for (int k = 0; k < 3; ++k) {
#pragma unroll
      for (int component = 0; component < 3; ++component) {
        sums[3 * k + component] += static_cast<double>(s[k]) * static_cast<double>(g[component]);
      }
    }
  }

  __device__ __forceinline__ void orphan(int64_t bond, BadIndex& bad) const {
    joins_atoms(crystals.num_atoms, bond, pairs[bond], pairs[num_rows + bond], bad);
  }

  __device__ __forceinline__ void finish(int64_t crystal, const double (&sums)[9]) const {
    const bool good = sums[0] == sums[0];  // a bad bond has made it NaN, and may not leave the others as they are
#pragma unroll
    for (int k = 0; k < 9; ++k) grad_cell[9 * crystal + k] = good ? static_cast<T>(sums[k]) : not_a_number<T>();
  }

  __device__ __forceinline__ void fail(int64_t crystal) const {
#pragma unroll
    for (int k = 0; k < 9; ++k) grad_cell[9 * crystal + k] = not_a_number<T>();
  }
};

constexpr unsigned kBondsPerTile = 256;

}  // namespace

int64_t bond_vectors_workspace(int64_t num_bonds) {
  return count_tiles(num_bonds, kBondsPerTile) * static_cast<int64_t>(sizeof(TilePartials<9>));
}

template <typename T>
const char* launch_bond_vectors(const BondVectorsArgs<T>& arguments, void* stream) {
  BondVectorsArgs<T> args = arguments;
  args.errors = arguments.errors.with(kTexts, args.num_atoms, args.num_bonds);
  const Crystals crystals{args.ptr, args.num_cells, args.num_atoms};
  // Without bonds ptr is checked all the same, and there is one block for it.
  const int64_t blocks = (args.num_bonds + kBonds - 1) / kBonds;
  if (blocks == 0 && args.num_cells == 0) return nullptr;
  DTNN_LAUNCH(fill_vectors<T>, grid_size(blocks > 0 ? blocks : 1), kBonds, 0, stream, args, crystals);
  return launch_error();
}

namespace {

template <typename T>
const char* launch_cell_sums(const BondVectorsBackwardArgs<T>& args, void* stream) {
  if (args.num_cells == 0) return nullptr;
  cudaMemsetAsync(args.grad_cell, 0xff, static_cast<size_t>(args.num_cells) * 9 * sizeof(T),
                  static_cast<cudaStream_t>(stream));
  if (const char* const error = launch_error()) return error;
  CellSums<T> source;
  source.grad = args.grad;
  source.pairs = args.pairs;
  source.shifts = args.shifts;
  source.row_ptr = args.row_ptr;
  source.grad_cell = args.grad_cell;
  source.crystals = {args.ptr, args.num_cells, args.num_atoms};
  source.num_rows = args.num_bonds;
  source.num_segments = args.num_cells;
  source.rows_per_tile = kBondsPerTile;
  source.errors = args.errors.with(kTexts, args.num_atoms, args.num_bonds);
  return launch_segment_sums(source, args.workspace, stream);
}

}  // namespace

// The cells first: their kernel says of a bad bond what the forward says, the other one that it is in a wrong row.
template <typename T>
const char* launch_bond_vectors_backward(const BondVectorsBackwardArgs<T>& args, void* stream) {
  if (const char* const error = launch_cell_sums(args, stream)) return error;
  const BondEndsArgs<T> sums{
      args.grad, args.pairs, args.grad_positions, args.num_atoms, args.num_bonds,      3,
      -1,        1,          args.errors,         args.row_ptr,   args.neighbor_order, args.neighbor_row_ptr};
  return launch_bond_to_atom_sum(sums, stream);
}

template const char* launch_bond_vectors<float>(const BondVectorsArgs<float>&, void*);
template const char* launch_bond_vectors<double>(const BondVectorsArgs<double>&, void*);
template const char* launch_bond_vectors_backward<float>(const BondVectorsBackwardArgs<float>&, void*);
template const char* launch_bond_vectors_backward<double>(const BondVectorsBackwardArgs<double>&, void*);

}  // namespace dtnn::cuda
