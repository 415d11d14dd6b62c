// SPDX-License-Identifier: MIT
// neighbor_list_fixed(the arguments of neighbor_list, capacity)
//   -> pairs [2, capacity] i64, shifts [capacity, 3] i32, row_ptr [N+1] i64, num_bonds [1] i64, status [1] i64
//
// neighbor_list in arrays whose size does not depend on values, without a synchronisation, for CUDA graphs. The first
// num_bonds bonds are those of neighbor_list, to the bit. The others are padding: bonds of the last atom to itself with
// shift 0, which belong to its row, so row_ptr[N] = capacity. Hence every operation on values of bonds and atoms takes
// the list, and padding reaches the last atom only. (bond_reverses wants a list without repeats.)
//
// status: 0, complete. 1, there are more bonds than `capacity`: all bonds are padding, and num_bonds is the number that
// is needed. 2, a value is bad: all bonds are padding, and num_bonds is 0; neighbor_list raises what is wrong with it.
// On the CPU, where nothing has to be waited for, bad values are the errors of neighbor_list.
// Empties: without atoms there is nothing to pad with, and `capacity` must be 0. Determinism as in neighbor_list. Not
// differentiable.
#pragma once

#include <tuple>

#include "ops/neighbor_list.h"

namespace dtnn {

using FixedNeighborListTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// The five tensors, with whatever memory holds.
FixedNeighborListTensors empty_fixed_list(const NeighborListArguments& arguments, int64_t capacity);

// One for each device, called after the shared checks.
FixedNeighborListTensors neighbor_list_fixed_cpu(const NeighborListArguments& arguments, int64_t capacity);
FixedNeighborListTensors neighbor_list_fixed_cuda(const NeighborListArguments& arguments, int64_t capacity);

}  // namespace dtnn
