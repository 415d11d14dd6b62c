// SPDX-License-Identifier: MIT
#pragma once

#include "bond_ends_args.h"

namespace dtnn::cuda {

// Sum of bond values into atoms: out[n, p] = center * sum_{e of row n} values[e, p]
//                                          + neighbor * sum_{k of neighbor row n} values[neighbor_order[k], p].
// Each output element is one sequential sum in T: the bonds of row n in order, then those of neighbor row n in order.
// The coefficients are -1, 0 or 1, so a product is exact and a CPU loop in the same order gives the same bits. `pairs`
// is compared with the rows. Defined for T = float, double, Float16 and BFloat16,
// for which the sum is one in float, rounded once.
template <typename T>
const char* launch_bond_to_atom_sum(const BondEndsArgs<T>& args, void* stream);

}  // namespace dtnn::cuda
