// SPDX-License-Identifier: MIT
// How the fused operations walk over atoms or bonds with a tile program: tiles that stay in the second level of the
// cache, and a fixed number of groups of tiles for the gradients of the weights. Both depend on the shapes alone, never
// on the number of threads, and so do the results.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "check.h"
#include "core/tile_program.h"
#include "ops/cpu/product_precision.h"

namespace dtnn {

struct TileRange {
  int64_t first;
  int64_t last;

  int64_t size() const { return last - first; }
};

// Rows whose values fill 384 KiB in float32: at least 8, at most 96.
inline int64_t rows_per_tile(const TileProgram& program, bool with_backward) {
  const int64_t per_row = std::max<int64_t>(1, tile_numbers_per_row(program, with_backward));
  return std::clamp<int64_t>(98304 / per_row / 8 * 8, 8, 96);
}

// The weights [members, P] of a program for products in bfloat16: an element for each member, or none where products
// stay in float32.
template <typename T>
std::vector<Bf16Terms> bf16_weights(const TileProgram& program, const T* weights, int64_t members, int64_t precision,
                                    bool with_backward) {
  std::vector<Bf16Terms> terms;
  if constexpr (std::is_same_v<T, float>) {
    if (!multiplies_in_bf16(precision)) return terms;
    for (int64_t m = 0; m < members; ++m) {
      terms.emplace_back(program, weights + m * program.num_weights(), with_backward);
    }
  }
  return terms;
}

// Those of a member, or null.
inline const Bf16Terms* member_of(const std::vector<Bf16Terms>& terms, int64_t member) {
  return terms.empty() ? nullptr : &terms[static_cast<size_t>(member)];
}

// Calls backward_tile(tile, group's grad_weights) for all tiles of `rows`, and sums grad_weights [size] of the groups
// in order. Each group goes through its tiles in order, with a state of its own from make_state().
template <typename T, typename MakeState, typename Backward>
void for_each_tile_in_groups(int64_t rows, int64_t tile_rows, T* grad_weights, int64_t size,
                             const MakeState& make_state, const Backward& backward_tile) {
  constexpr int64_t max_groups = 16, tiles_per_group = 4;
  const int64_t num_tiles = (rows + tile_rows - 1) / tile_rows;
  const int64_t num_groups = std::clamp<int64_t>(num_tiles / tiles_per_group, 1, max_groups);
  std::vector<T> partial(static_cast<size_t>((num_groups - 1) * size));  // of all groups but the first
  std::fill_n(grad_weights, size, T(0));
  torch::stable::parallel_for(0, num_groups, 1, [&](int64_t first_group, int64_t last_group) {
    auto state = make_state();
    for (int64_t g = first_group; g < last_group; ++g) {
      T* sums = g == 0 ? grad_weights : partial.data() + (g - 1) * size;
      for (int64_t t = g * num_tiles / num_groups; t < (g + 1) * num_tiles / num_groups; ++t) {
        backward_tile(TileRange{t * tile_rows, std::min((t + 1) * tile_rows, rows)}, state, sums);
      }
    }
  });
  torch::stable::parallel_for(0, size, 16384, [&](int64_t first, int64_t last) {
    for (int64_t g = 0; g + 1 < num_groups; ++g) {
      const T* sums = partial.data() + g * size;
      for (int64_t p = first; p < last; ++p) grad_weights[p] += sums[p];
    }
  });
}

// The same memory from another row on.
template <typename T>
TileMemory<T> rows_from(const TileProgram& program, const TileMemory<T>& memory, int64_t row) {
  TileMemory<T> moved = memory;
  const auto shift = [&](auto& addresses, const std::vector<TileValueId>& ids) {
    for (size_t i = 0; i < addresses.size(); ++i) {
      if (addresses[i] != nullptr) addresses[i] += row * program.values()[static_cast<size_t>(ids[i])].per_row();
    }
  };
  shift(moved.inputs, program.inputs());
  shift(moved.grad_inputs, program.inputs());
  shift(moved.outputs, program.outputs());
  shift(moved.grad_outputs, program.outputs());
  return moved;
}

// A network that maps rows of its inputs to rows of its outputs, on all rows. All addresses are those of the first row.
template <typename T>
void run_network(const TileProgram& program, int64_t rows, const TileMemory<T>& memory) {
  const int64_t tile = rows_per_tile(program, false);
  torch::stable::parallel_for(0, (rows + tile - 1) / tile, 1, [&](int64_t first_tile, int64_t last_tile) {
    TileRunner<T> runner(program, tile, false);
    for (int64_t t = first_tile; t < last_tile; ++t) {
      runner.forward(rows_from(program, memory, t * tile), std::min(tile, rows - t * tile));
    }
  });
}

// The gradients of a network's inputs and weights.
template <typename T>
void run_network_backward(const TileProgram& program, int64_t rows, const TileMemory<T>& memory) {
  const int64_t tile = rows_per_tile(program, true), size = program.num_weights();
  std::vector<T> weights_t(memory.weights, memory.weights + size);
  transpose_weights(program, memory.weights, weights_t.data());
  const auto make_state = [&] { return TileRunner<T>(program, tile, true); };
  const auto backward_tile = [&](TileRange range, TileRunner<T>& runner, T* grad_weights) {
    TileMemory<T> here = rows_from(program, memory, range.first);
    here.weights_t = weights_t.data();
    here.grad_weights = grad_weights;
    runner.forward(here, range.size());
    runner.backward(here, range.size());
  };
  for_each_tile_in_groups(rows, tile, memory.grad_weights, program.weights_need_grad() ? size : 0, make_state,
                          backward_tile);
}

}  // namespace dtnn
