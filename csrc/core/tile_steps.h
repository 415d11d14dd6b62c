// SPDX-License-Identifier: MIT
// A tile program as plain data for a GPU: steps that a block of threads goes through, and where each value stands.
// Values between inputs and outputs share the memory of a tile. A step that reads and writes the same places only may
// write over an input that nothing reads later. The backward's steps are those of tile_backward.h.
#pragma once

#include <cstdint>
#include <vector>

#include "tile_program.h"

namespace dtnn {

// A value of the program. Inputs and outputs stand in device memory, with an address that the caller fills in; others
// in the tile's memory, where a value [rows, components, channels] begins at tile_offset times the tile's rows.
struct TilePlace {
  void* data;             // of the first row; null: in the tile's memory
  void* keep;             // where a kKeep step copies the tile's numbers to, or null
  int64_t member_stride;  // of data or keep: numbers from one member's to the next one's; 0: shared by all members
  int32_t tile_offset;
  int32_t per_row;
  int32_t is_input;  // complete before the first step
  int32_t is_local;  // data or keep begins at the first row of a chunk of rows, not of all
};

// x [rows, depth] times the weights from `weight` on, with rows `row_stride` numbers apart.
struct TileTerm {
  int64_t weight;
  int32_t row_stride;
  int32_t depth;
  int32_t x;
};

enum class TileAction : int32_t {
  kForward,   // compute `out` from `in` or from terms
  kKeep,      // copy `out` from the tile's memory to `keep`
  kBackward,  // compute `grad_in` from `grad`; of a product, its terms are forward steps
};

struct TileStep {
  double eps;
  int64_t bias;  // of a product, or kNoBias
  TileNodeKind kind;
  TileAction action;
  int32_t components;
  int32_t channels;
  int32_t in_components;  // of in[0]
  int32_t in_channels;
  int32_t out;
  int32_t in[5];
  int32_t first_term;  // of a product: terms first_term..end_term, none without channels
  int32_t end_term;
  int32_t next_product;  // the first step from this one on that is a product with two columns or more; -1: none
  int32_t add;           // of a product: whether it is added to what `out` holds
  int32_t grad;          // the place of the gradient of `out`
  int32_t grad_in[5];    // the places of the gradients of `in`, -1 where not needed
  int32_t adds;          // bit k: whether grad_in[k] is added to
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

// The steps that lead to the values to keep. Outputs stand in the tile's memory too.
TileSteps plan_kept_steps(const TileProgram& program, const std::vector<char>& kept);

// A step as the node says, without terms.
TileStep tile_step_of(const TileProgram& program, const TileNode& node);

// Fills in next_product of all steps.
void link_products(std::vector<TileStep>& steps);

// Inputs of a node that its output may replace: of each element its thread reads this one alone, and before it writes.
// Likewise the gradient of such an input may replace that of the output.
std::vector<int> replaceable_inputs(TileNodeKind kind);

// Memory of one value, or of values that replace each other, from its first to its last use.
struct TileBuffer {
  int64_t first;
  int64_t last;
  int64_t size;
  int64_t offset;
};

// The size of a buffer for `per_row` numbers of a row.
int64_t padded_numbers(int64_t per_row);

// Gives buffers the lowest places that no other of the same time occupies; large ones choose first. Returns the size of
// all.
int64_t place_buffers(std::vector<TileBuffer>& buffers);

}  // namespace dtnn
