// SPDX-License-Identifier: MIT
// The forward of a tile program as plain data for a GPU: steps that a block of threads goes through, and where each
// value stands. Values between inputs and outputs share the memory of a tile. A step that reads and writes the same
// places only may write over an input that nothing reads later.
#pragma once

#include <cstdint>
#include <vector>

#include "tile_program.h"

namespace dtnn {

// A value of the program. Inputs and outputs stand in device memory, with an address that the caller fills in; others
// in the tile's memory, where a value [rows, components, channels] begins at tile_offset times the tile's rows.
struct TilePlace {
  void* data;             // of the first row; null: in the tile's memory
  int64_t member_stride;  // numbers from one member's to the next one's; 0: shared by all members
  int32_t tile_offset;
  int32_t per_row;
  int32_t is_input;
};

// x [rows, depth] times the weights from `weight` on, with rows `row_stride` numbers apart.
struct TileTerm {
  int64_t weight;
  int32_t row_stride;
  int32_t depth;
  int32_t x;
};

struct TileStep {
  double eps;
  int64_t bias;  // of a product, or kNoBias
  TileNodeKind kind;
  int32_t components;
  int32_t channels;
  int32_t in_components;  // of in[0]
  int32_t in_channels;
  int32_t out;
  int32_t in[5];
  int32_t first_term;  // of a product: terms first_term..end_term, none without channels
  int32_t end_term;
  int32_t next_product;  // the first step from this one on that is a product with two columns or more; -1: none
};

struct TileSteps {
  std::vector<TileStep> steps;
  std::vector<TileTerm> terms;
  std::vector<TilePlace> places;  // of each value of the program
  int64_t numbers_per_row;        // of the tile's memory

  TilePlace& place(TileValueId value) { return places[static_cast<size_t>(value)]; }
};

// Places in the tile's memory begin at multiples of 4 numbers.
TileSteps plan_tile_steps(const TileProgram& program);

}  // namespace dtnn
