// SPDX-License-Identifier: MIT
// Which ends of a bond an aggregation uses, and the index arrays for it. Shared by bond_to_atom_sum and
// atom_to_bond_gather, which are each other's transposes.
#pragma once

#include <string>

#include "optional_tensor.h"

namespace dtnn {

// The sparse matrix M [E, N] with M[e, center of e] += center and M[e, neighbor of e] += neighbor:
// atom_to_bond_gather multiplies by M, bond_to_atom_sum by its transpose.
struct BondEnds {
  Tensor pairs;                     // [2, E] int64, contiguous
  Tensor row_ptr;                   // [N+1] int64: the bonds of center n are row_ptr[n]..row_ptr[n+1]
  OptionalTensor neighbor_order;    // [E] int64: bonds sorted by neighbor; None when neighbor = 0
  OptionalTensor neighbor_row_ptr;  // [N+1] int64: its segments
  int64_t center;                   // coefficient of the center's end: 0, 1 or -1
  int64_t neighbor;                 // coefficient of the neighbor's end

  int64_t num_bonds() const { return pairs.size(1); }
  int64_t num_atoms() const { return row_ptr.size(0) - 1; }
};

// Checks shapes, dtypes and devices (against `values`), and returns contiguous index arrays. Values of the indices
// are checked by the kernels, where they are read anyway.
BondEnds check_bond_ends(const char* op, const char* values_name, const Tensor& values, const Tensor& pairs,
                         const Tensor& row_ptr, const OptionalTensor& neighbor_order,
                         const OptionalTensor& neighbor_row_ptr, int64_t center, int64_t neighbor);

// The schema of `op`, whose first argument is `values_name`; the others are those of check_bond_ends.
std::string bond_ends_schema(const std::string& op, const std::string& values_name);

// The number of elements behind each bond or atom: the product of all sizes after the first.
int64_t payload_size(const Tensor& values);

// A new tensor [rows, trailing sizes of `values`].
Tensor empty_rows(const Tensor& values, int64_t rows);

}  // namespace dtnn
