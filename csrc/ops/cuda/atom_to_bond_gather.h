// SPDX-License-Identifier: MIT
#pragma once

#include "launchers.h"

namespace dtnn::cuda {

// Gather of atom values to bonds: out[e, p] = center * values[pairs[0, e], p] + neighbor * values[pairs[1, e], p].
// An end with coefficient 0 is not read.
template <typename T>
struct AtomToBondGatherArgs {
  const T* values;       // [num_atoms, width]
  const int64_t* pairs;  // [2, num_bonds]
  T* out;                // [num_bonds, width]
  int64_t num_atoms;     // 1 or more, unless there are no bonds
  int64_t num_bonds;
  int64_t width;  // product of the payload dimensions, below 2^31
  int center;
  int neighbor;
  ErrorSink errors;
};

// Defined for T = float and double.
template <typename T>
const char* launch_atom_to_bond_gather(const AtomToBondGatherArgs<T>& args, void* stream);

}  // namespace dtnn::cuda
