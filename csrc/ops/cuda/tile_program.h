// SPDX-License-Identifier: MIT
// The forward of a tile program (core/tile_steps.h) on CUDA; rules as in launchers.h. A block takes a tile of rows of
// one member through all steps. Its values stand in shared memory.
#pragma once

#include <cstdint>

#include "../../core/tile_steps.h"

namespace dtnn::cuda {

template <typename T>
struct TileProgramArgs {
  const T* weights;        // of the first member
  int64_t member_weights;  // numbers from one member's to the next one's
  int64_t members;
  int64_t rows;
};

// Numbers of T that the launcher needs as memory. `steps` may lack the addresses.
template <typename T>
int64_t tile_program_workspace(const TileSteps& steps, int64_t rows, int64_t members);

// Defined for T = float and double.
template <typename T>
const char* launch_tile_program(const TileSteps& steps, const TileProgramArgs<T>& args, T* workspace, void* stream);

}  // namespace dtnn::cuda
