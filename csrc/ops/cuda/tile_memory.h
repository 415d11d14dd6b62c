// SPDX-License-Identifier: MIT
// What the kernels of a tile program (tile_kernel.h) know of their tile: steps, rows, and where values stand.
#pragma once

#include "../../core/tile_steps.h"
#include "rank2_rows.h"

namespace dtnn::cuda {

constexpr unsigned kTileThreads = 256;
constexpr unsigned kTileWarps = kTileThreads / 32;

// A stage holds one chunk of a product: rows in packs along the depth, and the weight's rows in packs along columns.
constexpr unsigned kStageRowPacks = 384;
constexpr unsigned kStageWeightPacks = 512;
constexpr unsigned kStagePacks = kStageRowPacks + kStageWeightPacks;
constexpr unsigned kNumStages = 2;  // one is filled while the other is multiplied

template <typename T>
struct TileKernelArgs {
  const TileStep* steps;
  const TileTerm* terms;
  const TilePlace* places;
  const T* weights;
  int64_t member_weights;
  int64_t members;
  int64_t first_row;  // of the chunk
  int64_t end_row;
  int64_t num_tiles;
  T* values;  // [gridDim.x, block_numbers], or null: values stand in shared memory
  int64_t block_numbers;
  unsigned num_steps;
  unsigned tile_rows;
};

// The rows of a tile for one member.
template <typename T>
struct Tile {
  const TileKernelArgs<T>& args;
  T* values;  // [numbers_per_row * tile_rows]
  const T* weights;
  int64_t first_row;
  int64_t member;
  unsigned rows;

  __device__ __forceinline__ T* at(int value) const {
    const TilePlace& place = args.places[value];
    if (place.data == nullptr) return values + place.tile_offset * args.tile_rows;
    return static_cast<T*>(place.data) + offset_of(place);
  }
  // In device memory, of the tile's first row.
  __device__ __forceinline__ int64_t offset_of(const TilePlace& place) const {
    const int64_t row = place.is_local ? first_row - args.first_row : first_row;
    return member * place.member_stride + row * place.per_row;
  }
  // Of an input that may be absent.
  __device__ __forceinline__ const T* input(const TileStep& step, int i) const {
    return step.in[i] < 0 ? nullptr : at(step.in[i]);
  }
};

}  // namespace dtnn::cuda
