// SPDX-License-Identifier: MIT
// reduce_bonds(positions [N, 3] f64, cell [B, 3, 3] f64, ptr [B+1], pairs [2, E] i64, bond_shifts [E, 3] i32,
//              row_ptr [N+1], half, rotations [G, 3, 3] i32, operation_ptr [B+1], atoms [M] i32, shifts [M, 3] i32,
//              cutoffs)
//   -> stored [N'] i64, weight [N'] f64, stored_ptr [B+1] i64, projector [B, 6, 6] f64, site_vector [N', 3, 3] f64,
//      site_rank2 [N', 6, 6] f64, pairs [2, E'] i64, bond_shifts [E', 3] i32, row_ptr [N'+1] i64, level [E'] i64,
//      vectors [E', 3] f64, rotation [E', 3, 3] f64, counts [2, E'] f64
//
// One atom and one bond of each orbit (core/bond_orbits.h) of crystals that symmetrise_crystals made, whose `atoms` and
// `shifts` these are. The list holds all bonds shorter than the last of the `cutoffs`; `level` numbers the shortest
// cutoff above a bond's length. `rotation` makes the neighbor of its stored atom, `counts` are the directed bonds of
// the orbit that start at each end, `site_vector` and `site_rank2` the projectors of the stored atoms' sites. The
// kernel runs on the CPU, as symmetrise_crystals does. Empties: B and E may be 0. The same bits for any number of
// threads. Not differentiable.
#pragma once

#include <tuple>
#include <vector>

#include "crystal_operations.h"
#include "sorted_bonds.h"

namespace dtnn {

using ReducedTensors =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Called after the checks, with tensors on the CPU.
ReducedTensors reduce_bonds_cpu(const CrystalOperations& crystals, const SortedBonds& bonds, bool half,
                                const Tensor& atoms, const Tensor& shifts, const std::vector<double>& cutoffs);

}  // namespace dtnn
