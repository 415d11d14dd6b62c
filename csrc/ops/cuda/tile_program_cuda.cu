// SPDX-License-Identifier: MIT
// The forward of tile programs.
#include "tile_kernel.h"
#include "tile_program.h"

namespace dtnn::cuda {
namespace {

struct ForwardAlgebra {
  template <typename T>
  __device__ __forceinline__ static void run(const Tile<T>& tile, const TileStep& step) {
    algebra_step(tile, step);
  }
};

// A part of a program, as the argument of a launch, of which 4 KiB are allowed.
constexpr int64_t kPieceWords = 400;
struct Piece {
  uint64_t words[kPieceWords];
};

__global__ void store_piece(Piece piece, uint64_t* to, unsigned words) {
  for (unsigned i = threadIdx.x; i < words; i += blockDim.x) to[i] = piece.words[i];
}

}  // namespace

const char* store_words(const std::vector<uint64_t>& words, uint64_t* to, void* stream) {
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

template <typename T>
int64_t tile_program_workspace(const TileSteps& steps, int64_t rows, int64_t members) {
  return stored_numbers<T>(steps) + numbers_outside<T>(steps, rows, members);
}

template <typename T>
const char* launch_tile_steps(const TileSteps& steps, const TileProgramArgs<T>& args, const uint64_t* stored, T* values,
                              void* stream) {
  return launch_tiles<ForwardAlgebra>(steps, args, stored, values, stream);
}

template <typename T>
const char* launch_tile_program(const TileSteps& steps, const TileProgramArgs<T>& args, T* workspace, void* stream) {
  if (args.rows == args.first_row || args.members == 0) return nullptr;
  if (const char* const problem = width_problem(steps)) return problem;
  uint64_t* const stored = reinterpret_cast<uint64_t*>(workspace);
  if (const char* const error = store_words(words_of(steps), stored, stream)) return error;
  return launch_tile_steps(steps, args, stored, workspace + stored_numbers<T>(steps), stream);
}

#define DTNN_TILE_PROGRAM(T)                                                                                          \
  template int64_t tile_program_workspace<T>(const TileSteps&, int64_t, int64_t);                                     \
  template const char* launch_tile_steps<T>(const TileSteps&, const TileProgramArgs<T>&, const uint64_t*, T*, void*); \
  template const char* launch_tile_program<T>(const TileSteps&, const TileProgramArgs<T>&, T*, void*);
DTNN_TILE_PROGRAM(float)
DTNN_TILE_PROGRAM(double)

}  // namespace dtnn::cuda
