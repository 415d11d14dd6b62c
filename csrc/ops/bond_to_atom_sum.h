// SPDX-License-Identifier: MIT
// bond_to_atom_sum(bond_values [E, ...], ends) -> atom_values [N, ...]
//
//   out[n] = center * sum_{e: pairs[0, e] = n} bond_values[e] + neighbor * sum_{e: pairs[1, e] = n} bond_values[e]
//
// Order of the sum: the center's bonds as stored, then the neighbor's as in neighbor_order, one after the other in the
// dtype of the values; float16 and bfloat16 in float32, rounded once at the end. So results are the same to the bit for
// any number of threads, on every call.
// Empties: atoms without bonds get 0; E = 0, N = 0 and an empty payload are fine.
// Errors: pairs that do not agree with row_ptr or neighbor_order, and bonds that do not ascend within a segment of
// neighbor_order (so that none counts twice). On CUDA they come later (cuda/device_errors.h).
#pragma once

#include "bond_ends.h"

namespace dtnn {

Tensor bond_to_atom_sum_cpu(const Tensor& bond_values, const BondEnds& ends);

}  // namespace dtnn
