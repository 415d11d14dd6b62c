// SPDX-License-Identifier: MIT
// How a launch cuts the product rows [num_atoms * K, C] * weight [C, D] (rank2_product.h).
//
// A warp computes 48 rows, a lane 6 consecutive ones: six atoms for K = 1, two for K = 3, one for K = 6, so that
// whatever joins the components of an atom stays in one thread. The depth C is cut into steps of 4 packs (16 channels
// in float32), and steps into chunks: while one chunk is multiplied, the next is on its way to shared memory. The
// weight stays in shared memory when it fits.
#pragma once

#include <algorithm>

#include "rank2_rows.h"

namespace dtnn::cuda {

constexpr unsigned kLaneRows = 6;
constexpr unsigned kWarpRows = 8 * kLaneRows;
constexpr unsigned kStepPacks = 4;
template <typename T>
constexpr unsigned kStepDepth = kStepPacks * kPackSize<T>;

constexpr unsigned kProductThreads = 256;
constexpr unsigned kMaxWarpColumns = 4;
// Two blocks of these parts fit into the shared memory of an sm_90: the weight 64 KiB, two chunks of 24 KiB.
constexpr size_t kMaxWeightBytes = 80 * 1024;
constexpr size_t kMaxChunkBytes = 24 * 1024;
constexpr size_t kLeastChunkBytes = 12 * 1024;  // 48 rows, one step, four arrays: the smallest chunk has no more
// Tiles become smaller until there are as many as an H100 runs at once; above, blocks take several tiles, and load the
// weight once for them.
constexpr int64_t kWantedTiles = 264;
constexpr unsigned kMaxBlocks = 528;

struct ProductTiling {
  unsigned warp_rows;  // a block is warp_rows x warp_columns warps
  unsigned warp_columns;
  unsigned columns;  // of a block
  Divisor by_columns;
  unsigned steps;         // in a chunk
  unsigned all_steps;     // of the whole depth
  unsigned weight_steps;  // of the weight in shared memory: all, or those of a chunk
  unsigned column_tiles;
  unsigned num_tiles;

  __host__ __device__ unsigned rows() const { return warp_rows * kWarpRows; }
  __host__ __device__ unsigned num_chunks() const { return (all_steps + steps - 1) / steps; }
  __host__ __device__ bool weight_stays() const { return weight_steps == all_steps; }
  unsigned threads() const { return 32 * warp_rows * warp_columns; }
};

// Where the arrays of a chunk lie in shared memory: offsets in packs. The rows to multiply are at 0.
struct ChunkLayout {
  unsigned mixed, invariant, norm, end;

  template <typename T>
  __host__ __device__ ChunkLayout(const ProductTiling& tiling, const Rank2Rows<T>& rows, int64_t components) {
    const unsigned row_packs = tiling.rows() * tiling.steps * kStepPacks;
    const unsigned atom_packs = row_packs / static_cast<unsigned>(components);
    mixed = row_packs;
    invariant = mixed + (rows.mixed == nullptr ? 0 : row_packs);
    norm = invariant + (rows.invariant == nullptr ? 0 : atom_packs);
    end = norm + (rows.norm == nullptr ? 0 : atom_packs);
  }
};

// `lane_packs`: packs of columns a lane computes; four lanes lie side by side. `max_shared`: bytes of shared memory
// that a block can have, at least 99 KiB. False when there are too many tiles.
template <typename T>
bool tile_product(const Rank2Rows<T>& rows, const Rank2Sizes& sizes, unsigned lane_packs, size_t max_shared,
                  ProductTiling& tiling) {
  const auto divide_up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t num_rows = sizes.num_atoms * sizes.components;
  const int64_t warp_width = 4 * lane_packs * kPackSize<T>;
  const int64_t warps = divide_up(sizes.channels_out, warp_width);
  const int64_t column_tiles = divide_up(warps, kMaxWarpColumns);
  tiling.warp_columns = static_cast<unsigned>(divide_up(warps, column_tiles));
  tiling.columns = tiling.warp_columns * static_cast<unsigned>(warp_width);
  tiling.by_columns = Divisor(tiling.columns);
  tiling.warp_rows = tiling.warp_columns <= 2 ? 4 : 2;
  tiling.steps = 1;
  tiling.all_steps = static_cast<unsigned>(divide_up(sizes.channels_in, kStepDepth<T>));
  const auto chunk_bytes = [&] { return size_t{ChunkLayout(tiling, rows, sizes.components).end} * kPackBytes; };
  const auto num_tiles = [&] { return divide_up(num_rows, tiling.rows()) * column_tiles; };
  const size_t weight_bytes = size_t{tiling.all_steps} * tiling.columns * kStepDepth<T> * sizeof(T);
  const bool weight_stays = weight_bytes <= kMaxWeightBytes && weight_bytes + 2 * kLeastChunkBytes <= max_shared;
  // Without the weight a chunk of it, up to 32 KiB, and two chunks of rows fit for any limit.
  const size_t chunk_limit = weight_stays ? std::min(kMaxChunkBytes, (max_shared - weight_bytes) / 2) : kMaxChunkBytes;
  while (tiling.warp_rows > 1 && (num_tiles() < kWantedTiles || chunk_bytes() > chunk_limit)) tiling.warp_rows /= 2;
  while (tiling.steps < 4 && tiling.steps < tiling.all_steps && 2 * chunk_bytes() <= chunk_limit) tiling.steps *= 2;
  tiling.weight_steps = weight_stays ? tiling.all_steps : tiling.steps;
  if (num_tiles() > kMaxTiles) return false;
  tiling.column_tiles = static_cast<unsigned>(column_tiles);
  tiling.num_tiles = static_cast<unsigned>(num_tiles());
  return true;
}

}  // namespace dtnn::cuda
