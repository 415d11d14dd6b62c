// SPDX-License-Identifier: MIT
// One kernel for all tile programs: a block takes a tile of rows of one member through all steps. The program comes as
// data in device memory, where a launch with its bytes as arguments puts it: nothing waits, and a CUDA graph may hold
// it. Forward and backward differ in the steps that are no products.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "tile_algebra.h"
#include "tile_product.h"
#include "tile_program.h"

namespace dtnn::cuda {

// A value's numbers from the tile's memory to device memory.
template <typename T>
__device__ __forceinline__ void keep_step(const Tile<T>& tile, const TileStep& step) {
  const TilePlace& place = tile.args.places[step.out];
  const T* const from = tile.at(step.out);
  T* const to = static_cast<T*>(place.keep) + tile.offset_of(place);
  const unsigned count = tile.rows * static_cast<unsigned>(place.per_row);
  if (count % kPackSize<T> != 0 || reinterpret_cast<uintptr_t>(to) % kPackBytes != 0) {
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < count; i += kTileThreads) to[i] = from[i];
    return;
  }
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < count / kPackSize<T>; i += kTileThreads) {
    reinterpret_cast<Packed<T>*>(to)[i] = reinterpret_cast<const Packed<T>*>(from)[i];
  }
}

template <typename Algebra, typename T>
__global__ void __launch_bounds__(kTileThreads, 2) run_tiles(TileKernelArgs<T> args) {
  DTNN_DYNAMIC_SHARED(Packed<T>, memory);
  T* const values = args.values == nullptr ? reinterpret_cast<T*>(memory + kNumStages * kStagePacks)
                                           : args.values + blockIdx.x * args.block_numbers;
  unsigned stage = 0;
  for (int64_t work = blockIdx.x; work < args.num_tiles * args.members; work += gridDim.x) {
    const int64_t number = work / args.members, member = work - number * args.members;
    const int64_t first = args.first_row + number * args.tile_rows, left = args.end_row - first;
    const unsigned rows = left < args.tile_rows ? static_cast<unsigned>(left) : args.tile_rows;
    const Tile<T> tile{args, values, args.weights + member * args.member_weights, first, member, rows};
    TileChunk chunk = TileChunk::first(args, 0);
    if (chunk.step >= 0) load_chunk(tile, chunk, memory + stage * kStagePacks);
#pragma unroll 1
    for (unsigned s = 0; s < args.num_steps; ++s) {
      const TileStep& step = args.steps[s];
      if (step.action == TileAction::kKeep) {
        keep_step(tile, step);
      } else if (step.kind == TileNodeKind::kLinear && step.channels > 1) {
        product_step(tile, memory, step, chunk, stage);
      } else {
        Algebra::run(tile, step);
      }
      __syncthreads();
    }
  }
}

// Rows of a tile in shared memory, at most 98 KiB with the stages: two blocks on an H100, one on GPUs that have 99 KiB.
// 0: not even one row fits.
constexpr int64_t kTileBytes = 98 * 1024 - int64_t{kNumStages} * kStagePacks * kPackBytes;
constexpr int64_t kMostTileRows = 96;
constexpr int64_t kWantedBlocks = 264;  // as many as an H100 runs at once
constexpr int64_t kRowsInMemory = 16;   // of a tile that does not fit

template <typename T>
int64_t rows_of_tile(const TileSteps& steps, int64_t rows, int64_t members) {
  const int64_t per_row = std::max<int64_t>(1, steps.numbers_per_row) * static_cast<int64_t>(sizeof(T));
  int64_t result = std::min(kMostTileRows, kTileBytes / per_row);
  if (result >= 16) {
    result = result / 16 * 16;
    while (result > 16 && (rows + result - 1) / result * members < kWantedBlocks) result -= 16;
    return result;
  }
  for (const int64_t few : {8, 4, 2, 1}) {
    if (result >= few) return few;
  }
  return 0;
}

template <typename T>
int64_t multiple_of_16_bytes(int64_t bytes) {
  return (bytes + 15) / 16 * 16 / static_cast<int64_t>(sizeof(T));
}

template <typename Item>
int64_t bytes_of(const std::vector<Item>& items) {
  static_assert(sizeof(Item) % sizeof(uint64_t) == 0, "a program has whole words");
  return static_cast<int64_t>(items.size() * sizeof(Item));
}

// Appends items to words.
template <typename Item>
void append_words(const std::vector<Item>& items, std::vector<uint64_t>& words) {
  const size_t before = words.size();
  words.resize(before + static_cast<size_t>(bytes_of(items)) / sizeof(uint64_t));
  if (!items.empty()) std::memcpy(words.data() + before, items.data(), static_cast<size_t>(bytes_of(items)));
}

inline std::vector<uint64_t> words_of(const TileSteps& steps) {
  std::vector<uint64_t> words;
  append_words(steps.steps, words);
  append_words(steps.terms, words);
  append_words(steps.places, words);
  return words;
}

// Numbers of the stored program.
template <typename T>
int64_t stored_numbers(const TileSteps& steps) {
  return multiple_of_16_bytes<T>(bytes_of(steps.steps) + bytes_of(steps.terms) + bytes_of(steps.places));
}

template <typename T>
int64_t numbers_in_memory(const TileSteps& steps, int64_t blocks) {
  return blocks * kRowsInMemory * multiple_of_16_bytes<T>(steps.numbers_per_row * static_cast<int64_t>(sizeof(T)));
}

// Numbers of device memory for the tiles of all blocks, where they do not fit into shared memory.
template <typename T>
int64_t numbers_outside(const TileSteps& steps, int64_t rows, int64_t members) {
  return rows_of_tile<T>(steps, rows, members) > 0 ? 0 : numbers_in_memory<T>(steps, kWantedBlocks);
}

inline const char* width_problem(const TileSteps& steps) {
  for (const TilePlace& place : steps.places) {
    if (int64_t{place.per_row} * kMostTileRows > kMaxWidth) return "expected fewer channels";
  }
  return nullptr;
}

// Runs stored steps. `values`: numbers_outside numbers.
template <typename Algebra, typename T>
const char* launch_tiles(const TileSteps& steps, const TileProgramArgs<T>& args, const uint64_t* stored, T* values,
                         void* stream) {
  const int64_t rows = args.rows - args.first_row, tile_rows = rows_of_tile<T>(steps, rows, args.members);
  TileKernelArgs<T> kernel_args{};
  kernel_args.steps = reinterpret_cast<const TileStep*>(stored);
  kernel_args.terms = reinterpret_cast<const TileTerm*>(kernel_args.steps + steps.steps.size());
  kernel_args.places = reinterpret_cast<const TilePlace*>(kernel_args.terms + steps.terms.size());
  kernel_args.weights = args.weights;
  kernel_args.member_weights = args.member_weights;
  kernel_args.members = args.members;
  kernel_args.first_row = args.first_row;
  kernel_args.end_row = args.rows;
  kernel_args.num_steps = static_cast<unsigned>(steps.steps.size());
  kernel_args.tile_rows = static_cast<unsigned>(tile_rows > 0 ? tile_rows : kRowsInMemory);
  kernel_args.num_tiles = (rows + kernel_args.tile_rows - 1) / kernel_args.tile_rows;
  int64_t blocks = kernel_args.num_tiles * args.members;
  int64_t bytes = int64_t{kNumStages} * kStagePacks * kPackBytes;
  if (tile_rows > 0) {
    bytes += tile_rows * steps.numbers_per_row * static_cast<int64_t>(sizeof(T));
  } else {
    blocks = std::min(blocks, kWantedBlocks);
    kernel_args.values = values;
    kernel_args.block_numbers = numbers_in_memory<T>(steps, 1);
  }
  auto* const kernel = run_tiles<Algebra, T>;
  allow_shared_bytes<run_tiles<Algebra, T>>(static_cast<int>(bytes));
  DTNN_LAUNCH(kernel, grid_size(blocks), kTileThreads, static_cast<size_t>(bytes), stream, kernel_args);
  return launch_error();
}

}  // namespace dtnn::cuda
