// SPDX-License-Identifier: MIT
// neighbor_list(positions [N, 3], cell, pbc, ptr, cutoff, cutoffs [B], half, self_pairs)
//   -> pairs [2, E] i64, shifts [E, 3] i32, row_ptr [N+1] i64
//
// `cutoffs`, where given, holds one cutoff for each crystal and takes the place of `cutoff`, which is then 0.
// `cutoff` must be finite and 0 or more: the check is in ../crystal_batch.cpp, for all operations with a cutoff.
// The bonds, their order and the arithmetic that decides at the cutoff are fixed by core/neighbor_list.h; kernels of
// all devices give the same bits. float32 inputs are converted to float64 first, which is exact. Empties: no crystals,
// crystals without atoms and atoms without bonds are fine. Determinism: the order is total, so there is one right
// answer, for any number of threads. Outputs are integers: nothing here is differentiable; bond_vectors is.
#pragma once

#include <tuple>

#include "crystal_batch.h"

namespace dtnn {

struct NeighborListArguments : CrystalBatch {
  Tensor pbc;  // [B, 3] or [3], contiguous
  bool half;
  bool self_pairs;
};

NeighborListArguments check_neighbor_list_arguments(const char* op, const Tensor& positions, const Tensor& cell,
                                                    const Tensor& pbc, const OptionalTensor& ptr, double cutoff,
                                                    const OptionalTensor& cutoffs, bool half, bool self_pairs);

using NeighborListTensors = std::tuple<Tensor, Tensor, Tensor>;  // pairs, shifts, row_ptr

// One for each device, called after the shared checks; see neighbor_list.cpp.
NeighborListTensors neighbor_list_cpu(const NeighborListArguments& arguments);
NeighborListTensors neighbor_list_cuda(const NeighborListArguments& arguments);

}  // namespace dtnn
