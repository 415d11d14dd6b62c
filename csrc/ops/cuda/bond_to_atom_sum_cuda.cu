// SPDX-License-Identifier: MIT
// Two kernels, one order of summation. The sum reads every bond value once, so memory bandwidth is the limit. Where
// rows are wide and many, each thread reads its own column of its atom's bonds straight from memory. Where rows are
// narrow (energies, forces), or so few that their threads would not keep the memory busy, a whole block loads the bonds
// of its atoms into shared memory, and one thread per output number adds them up from there.
#include "async_copy.h"
#include "bond_rows.h"
#include "bond_to_atom_sum.h"
#include "payload.h"

namespace dtnn::cuda {
namespace {

// The bond of a rank, and what must be compared before its value counts.
struct RankedBond {
  int64_t bond;  // safe to read: in range for any indices
  int64_t stored;
  int64_t atom;

  // `rank` is in the list, so there is a bond.
  __device__ __forceinline__ RankedBond(const BondEnd& end, int64_t rank)
      : bond(rank), stored(end.order == nullptr ? rank : end.order[rank]) {
    if (static_cast<uint64_t>(stored) < static_cast<uint64_t>(end.num_bonds)) bond = stored;
    atom = end.atoms[bond];
  }
};

// Bonds of a thread whose loads do not wait for each other, although their additions are in sequence.
constexpr int kInFlight = 4;

// Adds an atom's bonds of one end to `sum`; false where an index is bad.
template <typename T, int W>
__device__ __forceinline__ bool add_end(Pack<SumOf<T>, W>& sum, SumOf<T> coefficient, const BondEnd& end,
                                        const Pack<T, W>* values, int64_t units_per_row, int64_t atom, unsigned column,
                                        BadIndex& bad) {
  const BondRanks ranks(end, atom, bad);
  bool good = ranks.good;
  int64_t previous = -1;  // bonds ascend within a segment, so none is counted twice and another one left out
  for (int64_t begin = ranks.begin; begin < ranks.end; begin += kInFlight) {
    int64_t stored[kInFlight], found[kInFlight];
    Pack<T, W> value[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      // Beyond the end the last bond is loaded again, which costs nothing: its line is there.
      const RankedBond bond(end, begin + k < ranks.end ? begin + k : ranks.end - 1);
      stored[k] = bond.stored;
      found[k] = bond.atom;
      value[k] = values[bond.bond * units_per_row + column];
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      if (begin + k >= ranks.end) break;
      if (stored[k] <= previous || stored[k] >= end.num_bonds) {
        bad.see(end.first_check + kOrder, begin + k, stored[k]);
        good = false;
      } else if (found[k] != atom) {
        bad.see(end.first_check + kAtom, stored[k], found[k]);
        good = false;
      }
      previous = stored[k];
      add_scaled(sum, coefficient, value[k]);
    }
  }
  return good;
}

template <typename T>
__device__ __forceinline__ BondEnd center_end(const BondEndsArgs<T>& args) {
  return {args.pairs, nullptr, args.row_ptr, args.num_atoms, args.num_bonds, 0};
}

template <typename T>
__device__ __forceinline__ BondEnd neighbor_end(const BondEndsArgs<T>& args) {
  return {args.pairs + args.num_bonds,
          args.neighbor_order,
          args.neighbor_row_ptr,
          args.num_atoms,
          args.num_bonds,
          kEndChecks};
}

// Straight from memory: one thread per unit of the output. Neighboring threads read neighboring units of a bond, so
// loads are coalesced.
template <typename T, int W>
__global__ void __launch_bounds__(kMaxThreads) sum_rows(BondEndsArgs<T> args, RowTiling tiling) {
  using Unit = Pack<T, W>;
  const Unit* const values = reinterpret_cast<const Unit*>(args.values);
  Unit* const out = reinterpret_cast<Unit*>(args.out);
  const int64_t units_per_row = tiling.units_per_row;
  const int64_t stride = int64_t{gridDim.x} * tiling.rows_per_block;
  BadIndex bad;
  for (int64_t first = int64_t{blockIdx.x} * tiling.rows_per_block; first < args.num_atoms; first += stride) {
    const int64_t rows_left = args.num_atoms - first;
    const unsigned rows = rows_left < tiling.rows_per_block ? static_cast<unsigned>(rows_left) : tiling.rows_per_block;
    const unsigned units = rows * tiling.units_per_row;
    for (unsigned unit = threadIdx.x; unit < units; unit += blockDim.x) {
      const unsigned row = tiling.to_row.quotient(unit);
      const unsigned column = unit - row * tiling.units_per_row;
      const int64_t atom = first + row;
      Pack<SumOf<T>, W> sum{};
      bool good = true;
      if (args.center != 0) {
        const BondEnd end = center_end(args);
        good &= add_end(sum, static_cast<SumOf<T>>(args.center), end, values, units_per_row, atom, column, bad);
      }
      if (args.neighbor != 0) {
        const BondEnd end = neighbor_end(args);
        good &= add_end(sum, static_cast<SumOf<T>>(args.neighbor), end, values, units_per_row, atom, column, bad);
      }
      if (!good) fill(sum, not_a_number<SumOf<T>>());
      out[first * units_per_row + unit] = narrowed<T>(sum);
    }
  }
  bad.report(args.errors);
}

constexpr unsigned kTileBytes = 16 * 1024;
constexpr unsigned kTileBonds = 1024;

// Both start to bring the bonds of ranks begin.. to shared memory, by copies that wait for nothing: what a thread has
// in flight does not depend on its registers. Where ranks are bonds, values and atoms are contiguous.
template <typename Unit>
__device__ __forceinline__ void load_tile(Unit* tile, int64_t* found, const BondEnd& end, const Unit* values,
                                          unsigned units_per_row, int64_t begin, unsigned bonds) {
  const Unit* const from = values + begin * units_per_row;
  for (unsigned unit = threadIdx.x; unit < bonds * units_per_row; unit += blockDim.x) {
    copy_unit_async(tile + unit, from + unit);
  }
  for (unsigned bond = threadIdx.x; bond < bonds; bond += blockDim.x) {
    copy_unit_async(found + bond, end.atoms + begin + bond);
  }
}

// Only the order is waited for, once for each four units of a thread.
template <typename Unit>
__device__ __forceinline__ void load_ordered_tile(Unit* tile, int64_t* stored, int64_t* found, const BondEnd& end,
                                                  const Unit* values, unsigned units_per_row, Divisor to_row,
                                                  int64_t begin, unsigned bonds) {
  const unsigned units = bonds * units_per_row;
  for (unsigned first = threadIdx.x; first < units; first += kInFlight * blockDim.x) {
    unsigned row[kInFlight];
    int64_t order[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      row[k] = to_row.quotient(min(first + k * blockDim.x, units - 1));
      order[k] = end.order[begin + row[k]];
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const unsigned unit = first + k * blockDim.x;
      if (unit >= units) break;
      const bool in_range = static_cast<uint64_t>(order[k]) < static_cast<uint64_t>(end.num_bonds);
      const int64_t bond = in_range ? order[k] : begin + row[k];  // safe to read: in range for any order
      const unsigned column = unit - row[k] * units_per_row;
      copy_unit_async(tile + unit, values + bond * units_per_row + column);
      if (column != 0) continue;
      stored[row[k]] = order[k];
      copy_unit_async(found + row[k], end.atoms + bond);
    }
  }
}

// Adds the bonds of this thread's atom at one end to `sum`; false where an index is bad. The whole block must call it,
// for its atoms [first, first + atoms): their ranks are contiguous, and come tile by tile through shared memory.
template <typename T, int W>
__device__ bool add_end_from_tiles(Pack<SumOf<T>, W>& sum, SumOf<T> coefficient, const BondEnd& end,
                                   const Pack<T, W>* values, unsigned units_per_row, Divisor to_row, int64_t first,
                                   unsigned atoms, unsigned atom, unsigned column, BadIndex& bad) {
  using Unit = Pack<T, W>;
  constexpr unsigned tile_units = kTileBytes / sizeof(Unit);
  DTNN_SHARED_ARRAY(Unit, tile, tile_units);
  DTNN_SHARED_ARRAY(int64_t, stored, kTileBonds);
  DTNN_SHARED_ARRAY(int64_t, found, kTileBonds);
  const unsigned fitting = tile_units / units_per_row;
  const int64_t tile_bonds = fitting < kTileBonds ? fitting : kTileBonds;

  int64_t block_begin = end.row_ptr[first], block_end = end.row_ptr[first + atoms];
  if (block_begin < 0 || block_end > end.num_bonds) block_begin = block_end = 0;
  int64_t rank = 0, thread_end = 0;
  bool good = true;
  if (atom < atoms) {
    const BondRanks ranks(end, first + atom, bad);
    rank = ranks.begin;
    thread_end = ranks.end;
    // A row that can be followed, but of a block that cannot, must not pass for one without bonds.
    good = ranks.good && (rank == thread_end || (rank >= block_begin && thread_end <= block_end));
    if (!good) rank = thread_end = 0;
  }
  int64_t previous = -1;
  for (int64_t begin = block_begin; begin < block_end; begin += tile_bonds) {
    const unsigned bonds = static_cast<unsigned>(begin + tile_bonds < block_end ? tile_bonds : block_end - begin);
    if (end.order == nullptr) {
      load_tile(tile, found, end, values, units_per_row, begin, bonds);
    } else {
      load_ordered_tile(tile, stored, found, end, values, units_per_row, to_row, begin, bonds);
    }
    wait_for_copies();
    __syncthreads();
    const int64_t tile_end = begin + bonds;
    for (; rank < thread_end && rank < tile_end; ++rank) {
      const unsigned row = static_cast<unsigned>(rank - begin);
      const int64_t bond = end.order == nullptr ? rank : stored[row];
      if (bond <= previous || bond >= end.num_bonds) {
        bad.see(end.first_check + kOrder, rank, bond);
        good = false;
      } else if (found[row] != first + atom) {
        bad.see(end.first_check + kAtom, bond, found[row]);
        good = false;
      }
      previous = bond;
      add_scaled(sum, coefficient, tile[row * units_per_row + column]);
    }
    __syncthreads();  // before the next tile overwrites this one
  }
  return good;
}

constexpr int kTiledBlocksPerSm = 3;

template <typename T, int W>
__global__ void __launch_bounds__(kMaxThreads, kTiledBlocksPerSm)
    sum_tiled_rows(BondEndsArgs<T> args, RowTiling tiling) {
  using Unit = Pack<T, W>;
  const Unit* const values = reinterpret_cast<const Unit*>(args.values);
  Unit* const out = reinterpret_cast<Unit*>(args.out);
  const unsigned units_per_row = tiling.units_per_row;
  const unsigned atom = threadIdx.x / units_per_row;
  const unsigned column = threadIdx.x % units_per_row;
  const int64_t stride = int64_t{gridDim.x} * tiling.rows_per_block;
  BadIndex bad;
  for (int64_t first = int64_t{blockIdx.x} * tiling.rows_per_block; first < args.num_atoms; first += stride) {
    const int64_t rows_left = args.num_atoms - first;
    const unsigned atoms = rows_left < tiling.rows_per_block ? static_cast<unsigned>(rows_left) : tiling.rows_per_block;
    Pack<SumOf<T>, W> sum{};
    bool good = true;
    if (args.center != 0) {
      good &= add_end_from_tiles(sum, static_cast<SumOf<T>>(args.center), center_end(args), values, units_per_row,
                                 tiling.to_row, first, atoms, atom, column, bad);
    }
    if (args.neighbor != 0) {
      good &= add_end_from_tiles(sum, static_cast<SumOf<T>>(args.neighbor), neighbor_end(args), values, units_per_row,
                                 tiling.to_row, first, atoms, atom, column, bad);
    }
    if (!good) fill(sum, not_a_number<SumOf<T>>());
    if (atom < atoms) out[first * units_per_row + threadIdx.x] = narrowed<T>(sum);
  }
  bad.report(args.errors);
}

constexpr int64_t kNarrowRowBytes = 32;     // below one sector, threads of different atoms would refetch sectors
constexpr int64_t kFewThreads = 64 * 1024;  // a quarter of what an H100 runs at a time

template <typename T, int W>
const char* launch_units(const BondEndsArgs<T>& args, void* stream) {
  const int64_t units_per_row = args.width / W;
  const bool is_narrow = args.width * static_cast<int64_t>(sizeof(T)) < kNarrowRowBytes;
  const bool are_few = units_per_row <= kMaxThreads && args.num_atoms * units_per_row < kFewThreads;
  if (!is_narrow && !are_few) {
    const RowTiling tiling = tile_rows(args.num_atoms, units_per_row, kMaxThreads);
    auto* const kernel = sum_rows<T, W>;
    DTNN_LAUNCH(kernel, grid_size(tiling.blocks), tiling.threads, 0, stream, args, tiling);
    return launch_error();
  }
  // Few rows: as many blocks as a warp's width of the output allows.
  RowTiling tiling = tile_rows(args.num_atoms, units_per_row, are_few ? 32 : kMaxThreads);
  tiling.threads = kMaxThreads;  // those without an output load
  auto* const kernel = sum_tiled_rows<T, W>;
  DTNN_LAUNCH(kernel, grid_size(tiling.blocks), tiling.threads, 0, stream, args, tiling);
  return launch_error();
}

}  // namespace

template <typename T>
const char* launch_bond_to_atom_sum(const BondEndsArgs<T>& arguments, void* stream) {
  if (arguments.num_atoms == 0 || arguments.width == 0) return nullptr;
  if (arguments.width > kMaxWidth) return kTooWide;
  BondEndsArgs<T> args = arguments;
  args.errors = arguments.errors.with(kEndTexts, args.num_atoms, args.num_bonds);
  if (can_pack<T>(args.width, args.values, args.out)) return launch_units<T, kPackBytes / sizeof(T)>(args, stream);
  return launch_units<T, 1>(args, stream);
}

template const char* launch_bond_to_atom_sum<float>(const BondEndsArgs<float>&, void*);
template const char* launch_bond_to_atom_sum<double>(const BondEndsArgs<double>&, void*);
template const char* launch_bond_to_atom_sum<Float16>(const BondEndsArgs<Float16>&, void*);
template const char* launch_bond_to_atom_sum<BFloat16>(const BondEndsArgs<BFloat16>&, void*);

}  // namespace dtnn::cuda
