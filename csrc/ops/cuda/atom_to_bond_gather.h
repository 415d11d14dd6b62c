// SPDX-License-Identifier: MIT
#pragma once

#include "bond_ends_args.h"

namespace dtnn::cuda {

// Gather of atom values to bonds: out[e, p] = center * values[pairs[0, e], p] + neighbor * values[pairs[1, e], p].
// There must be an atom, unless there are no bonds. Defined for T = float, double, Float16 and BFloat16.
template <typename T>
const char* launch_atom_to_bond_gather(const BondEndsArgs<T>& args, void* stream);

}  // namespace dtnn::cuda
