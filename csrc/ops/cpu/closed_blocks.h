// SPDX-License-Identifier: MIT
// Blocks of atoms that no bond leaves: one crystal or several small ones. A block is worked on from start to end by one
// thread, which keeps its bonds in the second level of the cache and adds them to its atoms without any other thread
// writing there. Blocks depend on the list alone, never on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

namespace dtnn {

struct ClosedBlock {
  int64_t first_atom;
  int64_t last_atom;
  int64_t first_bond;
  int64_t last_bond;

  int64_t num_atoms() const { return last_atom - first_atom; }
  int64_t num_bonds() const { return last_bond - first_bond; }
};

// Splits all atoms into blocks of at least min_bonds bonds (but for the last), as small as the bonds allow. Checks the
// indices on the way: bonds sorted by center as row_ptr says, neighbors in range. Errors name the operation.
std::vector<ClosedBlock> closed_blocks(const char* op, const int64_t* pairs, const int64_t* row_ptr, int64_t num_atoms,
                                       int64_t num_bonds, int64_t min_bonds);

// Checks that order [E] and order_ptr [N+1] sort the bonds by neighbor, those of one neighbor ascending.
void check_neighbor_order(const char* op, const int64_t* neighbors, const int64_t* order, const int64_t* order_ptr,
                          int64_t num_atoms, int64_t num_bonds);

}  // namespace dtnn
