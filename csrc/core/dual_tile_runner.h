// SPDX-License-Identifier: MIT
// Tile programs in dual numbers (dual.h): TileRunner<Dual<T>>. Its values and gradients are pairs. Its weights stand in
// two places, and of the weights' gradients it sums the changes alone.
#pragma once

#include <vector>

#include "core/dual.h"
#include "core/tile_nodes.h"
#include "core/tile_program.h"

namespace dtnn {

template <typename T>
struct DualWeights {
  const T* value = nullptr;
  const T* change = nullptr;  // null: the weights do not change
};

template <typename T>
struct TileMemory<Dual<T>> {
  std::vector<const Dual<T>*> inputs;
  std::vector<Dual<T>*> outputs;
  DualWeights<T> weights;
  // Of backward:
  DualWeights<T> weights_t;
  std::vector<const Dual<T>*> grad_outputs;
  std::vector<Dual<T>*> grad_inputs;
  T* grad_weights = nullptr;
  std::vector<char> add_to;
};

template <>
void TileRunner<Dual<float>>::forward_node(const TileNode& node, const TileMemory<Dual<float>>& memory, int64_t rows);
template <>
void TileRunner<Dual<double>>::forward_node(const TileNode& node, const TileMemory<Dual<double>>& memory, int64_t rows);
template <>
void TileRunner<Dual<float>>::backward_node(const TileNode& node, const TileMemory<Dual<float>>& memory, int64_t rows);
template <>
void TileRunner<Dual<double>>::backward_node(const TileNode& node, const TileMemory<Dual<double>>& memory,
                                             int64_t rows);

}  // namespace dtnn
