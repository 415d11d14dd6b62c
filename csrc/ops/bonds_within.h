// SPDX-License-Identifier: MIT
// bonds_within(positions [N, 3], cell, ptr, pairs [2, E], shifts [E, 3], row_ptr [N+1], cutoff, cutoffs [B])
//   -> kept [E'] i64, pairs [2, E'] i64, shifts [E', 3] i32, row_ptr [N+1] i64
//
// The bonds e of a list with  |r_j - r_i + S @ cell| < cutoff  at these positions, by the arithmetic of neighbor_list
// (core/neighbor_list.h), in their order; kept are their indices e. Where the list holds every bond shorter than the
// cutoff, the result is neighbor_list's to the bit. Self pairs (i, i, 0) are always kept. `cutoffs` as in
// neighbor_list. The list's rows must agree with row_ptr, and bonds join atoms of one crystal: anything else is an
// error, on every device. Empties: N, E, B and E' may be 0. The same bits for any number of threads. Integers come out:
// not differentiable.
#pragma once

#include <tuple>

#include "crystal_batch.h"
#include "sorted_bonds.h"

namespace dtnn {

using BondsWithinTensors = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // kept, pairs, shifts, row_ptr

// One for each device, called after the shared checks.
BondsWithinTensors bonds_within_cpu(const CrystalBatch& batch, const SortedBonds& bonds);

}  // namespace dtnn
