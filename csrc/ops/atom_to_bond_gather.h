// SPDX-License-Identifier: MIT
// atom_to_bond_gather(atom_values [N, ...], ends) -> bond_values [E, ...]
//
//   out[e] = center * atom_values[pairs[0, e]] + neighbor * atom_values[pairs[1, e]]
//
// The transpose of bond_to_atom_sum. For float16 and bfloat16 the two ends are added in float32. Empties are fine. An
// index outside [0, N) is an error, which on CUDA comes later (cuda/device_errors.h).
#pragma once

#include "bond_ends.h"

namespace dtnn {

Tensor atom_to_bond_gather_cpu(const Tensor& atom_values, const BondEnds& ends);

}  // namespace dtnn
