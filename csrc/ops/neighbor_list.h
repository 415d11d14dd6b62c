// SPDX-License-Identifier: MIT
// neighbor_list(positions [N, 3], cell, pbc, ptr, cutoff, cutoffs [B], half, self_pairs)
//   -> pairs [2, E] i64, shifts [E, 3] i32, row_ptr [N+1] i64
//
// `cutoffs`, where given, holds one cutoff for each crystal and takes the place of `cutoff`, which is then 0.
// The bonds, their order and the arithmetic that decides at the cutoff are fixed by core/neighbor_list.h; kernels of
// all devices give the same bits. float32 inputs are converted to float64 first, which is exact. Empties: no crystals,
// crystals without atoms and atoms without bonds are fine. Determinism: the order is total, so there is one right
// answer, for any number of threads. Outputs are integers: nothing here is differentiable; bond_vectors is.
#pragma once

#include <optional>
#include <tuple>

#include "check.h"

namespace dtnn {

// The arguments after the checks that need no values: contiguous, positions and cell in float64.
struct NeighborListArguments {
  Tensor positions;               // [N, 3]
  Tensor cell;                    // [B, 3, 3] or [3, 3]
  Tensor pbc;                     // [B, 3] or [3]
  std::optional<Tensor> ptr;      // [B+1]; absent for one crystal
  double cutoff;                  // of all crystals, where there are no `cutoffs`
  std::optional<Tensor> cutoffs;  // [B], float64; values are checked by the kernels, message as for `cutoff`
  bool half;
  bool self_pairs;

  int64_t num_atoms() const { return positions.size(0); }
  int64_t num_crystals() const { return ptr ? ptr->size(0) - 1 : 1; }
};

using NeighborListTensors = std::tuple<Tensor, Tensor, Tensor>;  // pairs, shifts, row_ptr

// One for each device, called after the shared checks; see neighbor_list.cpp.
NeighborListTensors neighbor_list_cpu(const NeighborListArguments& arguments);

}  // namespace dtnn
