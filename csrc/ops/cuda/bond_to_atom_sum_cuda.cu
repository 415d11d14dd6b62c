// SPDX-License-Identifier: MIT
// Two kernels, one order of summation. The sum reads every bond value once, so memory bandwidth is the limit, and the
// width of a row says how to reach it: wide rows are read straight from memory, narrow rows (energies, forces) through
// shared memory.
#include "gpu.h"
#include "launchers.h"
#include "payload.h"

namespace dtnn::cuda {
namespace {

// Wide rows: one thread per unit of the output. Neighboring threads read neighboring units of a bond, so loads are
// coalesced.
template <typename T, int W>
__global__ void __launch_bounds__(kMaxThreads) sum_wide_rows(BondToAtomSumArgs<T> args, RowTiling tiling) {
  using Unit = Pack<T, W>;
  const Unit* const values = reinterpret_cast<const Unit*>(args.values);
  Unit* const out = reinterpret_cast<Unit*>(args.out);
  const int64_t units_per_row = tiling.units_per_row;
  const int64_t stride = int64_t{gridDim.x} * tiling.rows_per_block;
  for (int64_t first = int64_t{blockIdx.x} * tiling.rows_per_block; first < args.num_atoms; first += stride) {
    const int64_t rows_left = args.num_atoms - first;
    const unsigned rows = rows_left < tiling.rows_per_block ? static_cast<unsigned>(rows_left) : tiling.rows_per_block;
    const unsigned units = rows * tiling.units_per_row;
    for (unsigned unit = threadIdx.x; unit < units; unit += blockDim.x) {
      const int64_t atom = first + unit / tiling.units_per_row;
      const unsigned column = unit % tiling.units_per_row;
      Unit sum{};
      // Unrolled: the additions are in sequence, the loads of four bonds in flight together.
      if (args.center != 0) {
        const int64_t end = args.row_ptr[atom + 1];
#pragma unroll 4
        for (int64_t bond = args.row_ptr[atom]; bond < end; ++bond) {
          add_scaled(sum, static_cast<T>(args.center), values[bond * units_per_row + column]);
        }
      }
      if (args.neighbor != 0) {
        const int64_t end = args.neighbor_row_ptr[atom + 1];
#pragma unroll 4
        for (int64_t rank = args.neighbor_row_ptr[atom]; rank < end; ++rank) {
          add_scaled(sum, static_cast<T>(args.neighbor), values[args.neighbor_order[rank] * units_per_row + column]);
        }
      }
      out[first * units_per_row + unit] = sum;
    }
  }
}

constexpr int64_t kNarrowRowBytes = 32;  // below one sector, threads of different atoms would share and refetch sectors
constexpr unsigned kTileBytes = 16 * 1024;
constexpr int kNarrowBlocksPerSm =
    6;  // asked for explicitly: left alone, ptxas spills to fit 8 blocks into the registers

// The bonds of the atoms [first, first + atoms) of one row pointer, and the part of them that this thread sums.
struct Segment {
  int64_t block_begin, block_end;    // ranks of the block's bonds
  int64_t thread_begin, thread_end;  // ranks of this thread's bonds

  __device__ Segment(const int64_t* row_ptr, int64_t first, unsigned atoms, unsigned atom)
      : block_begin(row_ptr[first]), block_end(row_ptr[first + atoms]), thread_begin(0), thread_end(0) {
    if (atom < atoms) {
      thread_begin = row_ptr[first + atom];
      thread_end = row_ptr[first + atom + 1];
    }
  }
};

// Adds this thread's part of a segment to `sum`. The whole block must call it: bonds come tile by tile through shared
// memory. `order` maps a rank to a bond; null means that they are the same.
template <typename T>
__device__ T add_segment(T sum, T coefficient, const T* values, const int64_t* order, unsigned width,
                         const Segment& segment, unsigned column) {
  constexpr unsigned tile_items = kTileBytes / sizeof(T);
  DTNN_SHARED_ARRAY(T, tile, tile_items);
  const int64_t tile_bonds = tile_items / width;
  for (int64_t begin = segment.block_begin; begin < segment.block_end; begin += tile_bonds) {
    const int64_t end = begin + tile_bonds < segment.block_end ? begin + tile_bonds : segment.block_end;
    const unsigned items = static_cast<unsigned>(end - begin) * width;
    for (unsigned item = threadIdx.x; item < items; item += blockDim.x) {
      tile[item] =
          order == nullptr ? values[begin * width + item] : values[order[begin + item / width] * width + item % width];
    }
    __syncthreads();
    const int64_t thread_begin = segment.thread_begin > begin ? segment.thread_begin : begin;
    const int64_t thread_end = segment.thread_end < end ? segment.thread_end : end;
    for (int64_t rank = thread_begin; rank < thread_end; ++rank) {
      sum += coefficient * tile[static_cast<unsigned>(rank - begin) * width + column];
    }
    __syncthreads();  // before the next tile overwrites this one
  }
  return sum;
}

// Narrow rows: one thread per output number; a block's bonds are contiguous, so it streams them through shared memory.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads, kNarrowBlocksPerSm)
    sum_narrow_rows(BondToAtomSumArgs<T> args, RowTiling tiling) {
  const unsigned width = tiling.units_per_row;
  const unsigned atom = threadIdx.x / width;
  const unsigned column = threadIdx.x % width;
  const int64_t stride = int64_t{gridDim.x} * tiling.rows_per_block;
  for (int64_t first = int64_t{blockIdx.x} * tiling.rows_per_block; first < args.num_atoms; first += stride) {
    const int64_t rows_left = args.num_atoms - first;
    const unsigned atoms = rows_left < tiling.rows_per_block ? static_cast<unsigned>(rows_left) : tiling.rows_per_block;
    T sum = 0;
    if (args.center != 0) {
      const Segment segment(args.row_ptr, first, atoms, atom);
      sum = add_segment<T>(sum, static_cast<T>(args.center), args.values, nullptr, width, segment, column);
    }
    if (args.neighbor != 0) {
      const Segment segment(args.neighbor_row_ptr, first, atoms, atom);
      sum =
          add_segment<T>(sum, static_cast<T>(args.neighbor), args.values, args.neighbor_order, width, segment, column);
    }
    if (atom < atoms) args.out[first * width + threadIdx.x] = sum;
  }
}

template <typename T, int W>
const char* launch_wide(const BondToAtomSumArgs<T>& args, void* stream) {
  const RowTiling tiling = tile_rows(args.num_atoms, args.width / W, kMaxThreads);
  auto* const kernel = sum_wide_rows<T, W>;
  DTNN_LAUNCH(kernel, grid_size(tiling.blocks), tiling.threads, 0, stream, args, tiling);
  return launch_error();
}

template <typename T>
const char* launch_narrow(const BondToAtomSumArgs<T>& args, void* stream) {
  const RowTiling tiling = tile_rows(args.num_atoms, args.width, kMaxThreads);
  DTNN_LAUNCH(sum_narrow_rows<T>, grid_size(tiling.blocks), tiling.threads, 0, stream, args, tiling);
  return launch_error();
}

}  // namespace

template <typename T>
const char* launch_bond_to_atom_sum(const BondToAtomSumArgs<T>& args, void* stream) {
  if (args.num_atoms == 0 || args.width == 0) return nullptr;
  if (args.width > kMaxWidth) return kTooWide;
  if (args.width * static_cast<int64_t>(sizeof(T)) < kNarrowRowBytes) return launch_narrow(args, stream);
  if (can_pack<T>(args.width, args.values, args.out)) return launch_wide<T, kPackBytes / sizeof(T)>(args, stream);
  return launch_wide<T, 1>(args, stream);
}

template const char* launch_bond_to_atom_sum<float>(const BondToAtomSumArgs<float>&, void*);
template const char* launch_bond_to_atom_sum<double>(const BondToAtomSumArgs<double>&, void*);

}  // namespace dtnn::cuda
