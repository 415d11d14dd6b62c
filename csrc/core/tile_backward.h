// SPDX-License-Identifier: MIT
// The backward of a tile program as plain data for a GPU, for rows in chunks. First come the forward's steps again, of
// which the values that the gradients need are kept in device memory. Then the steps in reverse: gradients stand in the
// tile's memory, except those of inputs, and copies of those that gradients of weights need. Last, products of kept
// values with kept gradients are the gradients of the weights.
//
// A part of a matrix must not be used by two products: their gradients would be added by two blocks at a time. Planning
// such a backward is a std::logic_error.
#pragma once

#include <cstdint>
#include <vector>

#include "tile_steps.h"

namespace dtnn {

// The gradient of a part of a matrix, x^T grad [depth, channels] over all rows and components, and of a bias.
struct TileWeightGrad {
  TileValueId x;  // kNoTileValue: of a bias alone
  int32_t grad;   // the place of the gradient of the product
  int64_t components;
  int64_t depth;  // 0 for a bias alone
  int64_t channels;
  int64_t weight;  // where it stands in the gradient of the weights
  int64_t row_stride;
  int64_t bias;  // kNoBias: none, or another term of the same product has it
};

// A matrix [rows, cols] that is to be transposed: rows of the result are `stride` numbers apart, a multiple of 4.
struct TileTransposed {
  int64_t from;
  int64_t to;
  int64_t rows;
  int64_t cols;
  int64_t stride;
};

struct TileBackward {
  std::vector<char> kept;          // of each value, whether it is kept
  std::vector<char> kept_grads;    // of each place of the reverse, whether it is kept
  std::vector<char> needed_grads;  // of each input, whether its gradient is wanted
  std::vector<TileValueId> zeros;  // inputs whose gradient is wanted and which no result with a gradient depends on
  TileSteps forward;
  // Its places are those of the values, which all stand in device memory, then those of their gradients, then the
  // gradients of the outputs as they are given. Its weights are the transposed ones.
  TileSteps reverse;
  std::vector<TileWeightGrad> weight_grads;
  std::vector<TileTransposed> transposed;
  int64_t num_transposed;

  int32_t grad_place(TileValueId value) const { return static_cast<int32_t>(kept.size()) + value; }
  int32_t given_place(size_t output) const { return static_cast<int32_t>(2 * kept.size() + output); }
};

// `given`: the outputs with a gradient. `read`: outputs whose values are kept, because the caller reads them.
TileBackward plan_tile_backward(const TileProgram& program, const std::vector<bool>& given,
                                const std::vector<bool>& read);

}  // namespace dtnn
