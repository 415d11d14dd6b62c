// SPDX-License-Identifier: MIT
#pragma once

#include "launchers.h"

namespace dtnn::cuda {

// Sum of bond values into atoms: out[n, p] = center * sum_{e of row n} values[e, p]
//                                          + neighbor * sum_{k of neighbor row n} values[neighbor_order[k], p].
// Each output element is one sequential sum in T: the bonds of row n in order, then those of neighbor row n in order.
// The coefficients are -1, 0 or 1, so a product is exact and a CPU loop in the same order gives the same bits. A part
// with coefficient 0 is not read: its pointers may be null, and a NaN there does not reach the output.
template <typename T>
struct BondToAtomSumArgs {
  const T* values;                  // [num_bonds, width]
  const int64_t* pairs;             // [2, num_bonds], compared with the rows
  const int64_t* row_ptr;           // [num_atoms + 1], bonds by center
  const int64_t* neighbor_order;    // [num_bonds], bonds sorted by neighbor
  const int64_t* neighbor_row_ptr;  // [num_atoms + 1], rows of neighbor_order
  T* out;                           // [num_atoms, width]
  int64_t num_atoms;
  int64_t num_bonds;
  int64_t width;  // product of the payload dimensions, below 2^31
  int center;
  int neighbor;
  ErrorSink errors;
};

// Defined for T = float and double.
template <typename T>
const char* launch_bond_to_atom_sum(const BondToAtomSumArgs<T>& args, void* stream);

}  // namespace dtnn::cuda
