// SPDX-License-Identifier: MIT
// Crystals with their symmetry operations, one after another in common arrays: shared by symmetrise_crystals and
// reduce_bonds, which run on the CPU whatever the device of their arguments.
#pragma once

#include <vector>

#include "check.h"

namespace dtnn {

// After the checks that need no values: contiguous, on the CPU.
struct CrystalOperations {
  Tensor positions;      // [N, 3] float64
  Tensor cell;           // [B, 3, 3] float64
  Tensor ptr;            // [B+1] int64
  Tensor rotations;      // [G, 3, 3] int32
  Tensor operation_ptr;  // [B+1] int64: crystal b owns the operations operation_ptr[b]..operation_ptr[b+1]

  int64_t num_atoms() const { return positions.size(0); }
  int64_t num_crystals() const { return cell.size(0); }
  int64_t num_operations() const { return rotations.size(0); }
};

// A contiguous copy on the CPU.
Tensor on_cpu(const Tensor& tensor);

CrystalOperations check_crystal_operations(const char* op, const Tensor& positions, const Tensor& cell,
                                           const Tensor& ptr, const Tensor& rotations, const Tensor& operation_ptr);

// Where the arrays of each crystal start.
struct OperationOffsets {
  std::vector<int64_t> atom, operation;  // [B+1]
  std::vector<int64_t> image;            // [B+1]: rows of (operation, atom) arrays, sum of G_b N_b
};

// Checks the values of both pointers, and that no crystal is without atoms or operations.
OperationOffsets operation_offsets(const char* op, const CrystalOperations& crystals);

}  // namespace dtnn
