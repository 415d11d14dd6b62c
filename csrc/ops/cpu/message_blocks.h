// SPDX-License-Identifier: MIT
// How the forward and the backward of bond_messages split the bonds: blocks that no bond leaves, and tiles in them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/uninitialized.h"
#include "ops/bond_messages.h"
#include "ops/cpu/bond_messages_tile.h"
#include "ops/cpu/closed_blocks.h"

namespace dtnn {

// Bonds between two matrix products: their features and messages stay in the second level of the cache.
constexpr int64_t kTileBonds = 48;
// Smaller blocks would be more blocks than threads need, and tiles that are not full.
constexpr int64_t kMinBlockBonds = 4 * kTileBonds;
// From here on the threads share the bonds of one block.
constexpr int64_t kLargeBlockBonds = 2048;

inline bool is_large(const ClosedBlock& block) { return block.num_bonds() >= kLargeBlockBonds; }

inline BondRange tile_of(const ClosedBlock& block, int64_t tile, int64_t tile_bonds = kTileBonds) {
  const int64_t first = block.first_bond + tile * tile_bonds;
  return {first, std::min(first + tile_bonds, block.last_bond)};
}

inline std::vector<ClosedBlock> message_blocks(const char* op, const MessageShape& shape, const BondEnds& ends) {
  const int64_t* pairs = ends.pairs.const_data_ptr<int64_t>();
  check_neighbor_order(op, pairs + shape.num_bonds, ends.neighbor_order->const_data_ptr<int64_t>(),
                       ends.neighbor_row_ptr->const_data_ptr<int64_t>(), shape.num_atoms, shape.num_bonds);
  return closed_blocks(op, pairs, ends.row_ptr.const_data_ptr<int64_t>(), shape.num_atoms, shape.num_bonds,
                       kMinBlockBonds);
}

}  // namespace dtnn
