// SPDX-License-Identifier: MIT
// One kernel for all tile programs: a block takes a tile of rows of one member through all steps. The program comes as
// data in device memory, where a launch with its bytes as arguments puts it: nothing waits, and a CUDA graph may hold
// it.
#include <algorithm>
#include <cstring>

#include "tile_algebra.h"
#include "tile_product.h"
#include "tile_program.h"

namespace dtnn::cuda {
namespace {

template <typename T>
__global__ void __launch_bounds__(kTileThreads, 2) run_tiles(TileKernelArgs<T> args) {
  DTNN_DYNAMIC_SHARED(Packed<T>, memory);
  T* const values = args.values == nullptr ? reinterpret_cast<T*>(memory + kNumStages * kStagePacks)
                                           : args.values + blockIdx.x * args.block_numbers;
  unsigned stage = 0;
  for (int64_t work = blockIdx.x; work < args.num_tiles * args.members; work += gridDim.x) {
    const int64_t number = work / args.members, member = work - number * args.members;
    const int64_t first = number * args.tile_rows, left = args.rows - first;
    const unsigned rows = left < args.tile_rows ? static_cast<unsigned>(left) : args.tile_rows;
    const Tile<T> tile{args, values, args.weights + member * args.member_weights, first, member, rows};
    TileChunk chunk = TileChunk::first(args, 0);
    if (chunk.step >= 0) load_chunk(tile, chunk, memory + stage * kStagePacks);
#pragma unroll 1
    for (unsigned s = 0; s < args.num_steps; ++s) {
      const TileStep& step = args.steps[s];
      if (step.kind == TileNodeKind::kLinear && step.channels > 1) {
        product_step(tile, memory, step, chunk, stage);
      } else {
        algebra_step(tile, step);
      }
      __syncthreads();
    }
  }
}

// A part of a program, as the argument of a launch, of which 4 KiB are allowed.
constexpr int64_t kPieceWords = 400;
struct Piece {
  uint64_t words[kPieceWords];
};

__global__ void store_piece(Piece piece, uint64_t* to, unsigned words) {
  for (unsigned i = threadIdx.x; i < words; i += blockDim.x) to[i] = piece.words[i];
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
  static_assert(sizeof(Item) % sizeof(uint64_t) == 0, "a piece has whole words");
  return static_cast<int64_t>(items.size() * sizeof(Item));
}

int64_t program_bytes(const TileSteps& steps) {
  return bytes_of(steps.steps) + bytes_of(steps.terms) + bytes_of(steps.places);
}

template <typename T>
int64_t numbers_in_memory(const TileSteps& steps, int64_t blocks) {
  return blocks * kRowsInMemory * multiple_of_16_bytes<T>(steps.numbers_per_row * static_cast<int64_t>(sizeof(T)));
}

const char* store_program(const TileSteps& steps, uint64_t* to, void* stream) {
  std::vector<uint64_t> words(static_cast<size_t>(program_bytes(steps)) / sizeof(uint64_t));
  unsigned char* next = reinterpret_cast<unsigned char*>(words.data());
  const auto append = [&next](const auto& items) {
    const size_t bytes = static_cast<size_t>(bytes_of(items));
    if (bytes > 0) std::memcpy(next, items.data(), bytes);
    next += bytes;
  };
  append(steps.steps);
  append(steps.terms);
  append(steps.places);
  const int64_t count = static_cast<int64_t>(words.size());
  for (int64_t first = 0; first < count; first += kPieceWords) {
    const int64_t left = std::min(kPieceWords, count - first);
    Piece piece{};
    std::memcpy(piece.words, words.data() + first, static_cast<size_t>(left) * sizeof(uint64_t));
    DTNN_LAUNCH(store_piece, 1, 128, 0, stream, piece, to + first, static_cast<unsigned>(left));
    if (const char* const error = launch_error()) return error;
  }
  return nullptr;
}

}  // namespace

template <typename T>
int64_t tile_program_workspace(const TileSteps& steps, int64_t rows, int64_t members) {
  const int64_t program = multiple_of_16_bytes<T>(program_bytes(steps));
  const int64_t tile = rows_of_tile<T>(steps, rows, members);
  return program + (tile > 0 ? 0 : numbers_in_memory<T>(steps, kWantedBlocks));
}

template <typename T>
const char* launch_tile_program(const TileSteps& steps, const TileProgramArgs<T>& args, T* workspace, void* stream) {
  if (args.rows == 0 || args.members == 0) return nullptr;
  for (const TilePlace& place : steps.places) {
    if (int64_t{place.per_row} * kMostTileRows > kMaxWidth) return "expected fewer channels";
  }
  if (const char* const error = store_program(steps, reinterpret_cast<uint64_t*>(workspace), stream)) return error;
  const int64_t tile_rows = rows_of_tile<T>(steps, args.rows, args.members);
  TileKernelArgs<T> kernel_args{};
  kernel_args.steps = reinterpret_cast<const TileStep*>(workspace);
  kernel_args.terms = reinterpret_cast<const TileTerm*>(kernel_args.steps + steps.steps.size());
  kernel_args.places = reinterpret_cast<const TilePlace*>(kernel_args.terms + steps.terms.size());
  kernel_args.weights = args.weights;
  kernel_args.member_weights = args.member_weights;
  kernel_args.members = args.members;
  kernel_args.rows = args.rows;
  kernel_args.num_steps = static_cast<unsigned>(steps.steps.size());
  kernel_args.tile_rows = static_cast<unsigned>(tile_rows > 0 ? tile_rows : kRowsInMemory);
  kernel_args.num_tiles = (args.rows + kernel_args.tile_rows - 1) / kernel_args.tile_rows;
  int64_t blocks = kernel_args.num_tiles * args.members;
  int64_t bytes = int64_t{kNumStages} * kStagePacks * kPackBytes;
  if (tile_rows > 0) {
    bytes += tile_rows * steps.numbers_per_row * static_cast<int64_t>(sizeof(T));
  } else {
    blocks = std::min(blocks, kWantedBlocks);
    kernel_args.values = workspace + multiple_of_16_bytes<T>(program_bytes(steps));
    kernel_args.block_numbers = numbers_in_memory<T>(steps, 1);
  }
  auto* const kernel = run_tiles<T>;
  allow_shared_bytes<run_tiles<T>>(static_cast<int>(bytes));
  DTNN_LAUNCH(kernel, grid_size(blocks), kTileThreads, static_cast<size_t>(bytes), stream, kernel_args);
  return launch_error();
}

template int64_t tile_program_workspace<float>(const TileSteps&, int64_t, int64_t);
template int64_t tile_program_workspace<double>(const TileSteps&, int64_t, int64_t);
template const char* launch_tile_program<float>(const TileSteps&, const TileProgramArgs<float>&, float*, void*);
template const char* launch_tile_program<double>(const TileSteps&, const TileProgramArgs<double>&, double*, void*);

}  // namespace dtnn::cuda
