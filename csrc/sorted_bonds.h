// SPDX-License-Identifier: MIT
// A list of bonds as neighbor_list returns it: what the operations on lists take.
#pragma once

#include "check.h"

namespace dtnn {

// After the checks that need no values, and contiguous.
struct SortedBonds {
  Tensor pairs;    // [2, E] int64
  Tensor shifts;   // [E, 3] int32
  Tensor row_ptr;  // [N+1] int64

  int64_t num_bonds() const { return pairs.size(1); }
  int64_t num_atoms() const { return row_ptr.size(0) - 1; }
};

// Checks of single arguments: dtype, shape, and the device of `other`, the argument `other_name`.
void check_pairs(const char* op, const Tensor& pairs, const char* other_name, const Tensor& other);
void check_shifts(const char* op, const Tensor& shifts, int64_t num_bonds, const char* other_name, const Tensor& other);
void check_row_ptr(const char* op, const Tensor& row_ptr, const char* other_name, const Tensor& other);

// Devices are compared with `other`, the argument `other_name`.
SortedBonds check_sorted_bonds(const char* op, const Tensor& pairs, const Tensor& shifts, const Tensor& row_ptr,
                               const char* other_name, const Tensor& other);

}  // namespace dtnn
