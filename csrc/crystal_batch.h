// SPDX-License-Identifier: MIT
// The crystals of one call, one after another in common arrays, with a common cutoff or one per crystal: shared by
// neighbor_list and bonds_within.
#pragma once

#include "optional_tensor.h"

namespace dtnn {

// After the checks that need no values: contiguous, positions, cell and cutoffs in float64.
struct CrystalBatch {
  Tensor positions;        // [N, 3]
  Tensor cell;             // [B, 3, 3] or [3, 3]
  OptionalTensor ptr;      // [B+1]; absent for one crystal
  double cutoff;           // of all crystals, finite and not negative; 0 where there are `cutoffs`
  OptionalTensor cutoffs;  // [B]; values are checked by the kernels, with the message for `cutoff`

  int64_t num_atoms() const { return positions.size(0); }
  int64_t num_crystals() const { return ptr ? ptr->size(0) - 1 : 1; }
};

CrystalBatch check_crystal_batch(const char* op, const Tensor& positions, const Tensor& cell, const OptionalTensor& ptr,
                                 double cutoff, const OptionalTensor& cutoffs);

// Checks that `tensor` has shape [3], or [3, 3] for a `matrix`, common to all crystals, or one such entry per crystal.
void check_shared_or_per_crystal(const char* op, const char* name, const Tensor& tensor, int64_t num_crystals,
                                 bool matrix);

}  // namespace dtnn
