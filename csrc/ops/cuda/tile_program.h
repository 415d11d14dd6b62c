// SPDX-License-Identifier: MIT
// The forward of a tile program (core/tile_steps.h) on CUDA; rules as in launchers.h. A block takes a tile of rows of
// one member through all steps. Its values stand in shared memory.
#pragma once

#include <cstdint>
#include <vector>

#include "../../core/tile_steps.h"

namespace dtnn::cuda {

template <typename T>
struct TileProgramArgs {
  const T* weights;        // of the first member
  int64_t member_weights;  // numbers from one member's to the next one's
  int64_t members;
  int64_t rows;           // the end of the rows
  int64_t first_row = 0;  // of a chunk, where places may begin (TilePlace::is_local)
};

// Numbers of T that the launcher needs as memory. `steps` may lack the addresses.
template <typename T>
int64_t tile_program_workspace(const TileSteps& steps, int64_t rows, int64_t members);

// Defined for T = float and double.
template <typename T>
const char* launch_tile_program(const TileSteps& steps, const TileProgramArgs<T>& args, T* workspace, void* stream);

// Stores a program's words in device memory, as arguments of launches.
const char* store_words(const std::vector<uint64_t>& words, uint64_t* to, void* stream);

// Runs a program that is `stored`, with memory for tiles that do not fit into shared memory (tile_kernel.h).
template <typename T>
const char* launch_tile_steps(const TileSteps& steps, const TileProgramArgs<T>& args, const uint64_t* stored, T* values,
                              void* stream);

}  // namespace dtnn::cuda
