// SPDX-License-Identifier: MIT
// bond_reverses(pairs [2, E], shifts [E, 3], row_ptr [N+1]) -> reverses [E] i64
//
// The index of the bond (j, i, -S) for each bond (i, j, S) of a full list; a self pair (i, i, 0) is its own reverse.
// The list is sorted as neighbor_list sorts it, without repeats, so every bond has at most one reverse, and
// reverses[reverses[e]] = e. A bond without one, a list in another order or a neighbor out of range is an error that
// names the first such bond, on every device: the result is used as an index.
// Empties: N and E may be 0. The same bits for any number of threads. Integers come out: not differentiable.
#pragma once

#include "sorted_bonds.h"

namespace dtnn {

// One for each device, called after the shared checks.
Tensor bond_reverses_cpu(const SortedBonds& bonds);

}  // namespace dtnn
