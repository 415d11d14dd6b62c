// SPDX-License-Identifier: MIT
#pragma once

#include "launchers.h"
#include "value_types.h"

namespace dtnn::cuda {

// Arguments of both launch_bond_to_atom_sum and launch_atom_to_bond_gather. An end with coefficient 0 is not read: its
// pointers may be null, and a NaN there does not reach the output. T is float, double, Float16 or BFloat16; the last
// two are added in float and rounded once.
template <typename T>
struct BondEndsArgs {
  const T* values;       // of bonds or of atoms, [num_bonds or num_atoms, width]
  const int64_t* pairs;  // [2, num_bonds]
  T* out;                // of the others, [num_atoms or num_bonds, width]
  int64_t num_atoms;
  int64_t num_bonds;
  int64_t width;  // product of the payload dimensions, below 2^31
  int center;     // coefficients: -1, 0 or 1
  int neighbor;
  ErrorSink errors;
  // Where the bonds of each atom are; only bond_to_atom_sum reads these.
  const int64_t* row_ptr;           // [num_atoms + 1], bonds by center
  const int64_t* neighbor_order;    // [num_bonds], bonds sorted by neighbor
  const int64_t* neighbor_row_ptr;  // [num_atoms + 1], rows of neighbor_order
};

}  // namespace dtnn::cuda
