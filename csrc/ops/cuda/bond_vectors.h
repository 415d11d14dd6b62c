// SPDX-License-Identifier: MIT
#pragma once

#include "launchers.h"

namespace dtnn::cuda {

// vectors[e] = (r_j - r_i) + ((s_0 a + s_1 b) + s_2 c), with the cell of the crystal that owns i. Each step is rounded
// once: the bits of the CPU.
template <typename T>
struct BondVectorsArgs {
  const T* positions;     // [num_atoms, 3]
  const T* cell;          // [num_cells, 3, 3]
  const int64_t* pairs;   // [2, num_bonds], in any order, fastest when sorted by center
  const int32_t* shifts;  // [num_bonds, 3]
  const int64_t* ptr;     // [num_cells + 1]; null: one crystal
  T* vectors;             // [num_bonds, 3]
  int64_t num_atoms;      // 1 or more unless there are no bonds, like the next
  int64_t num_cells;
  int64_t num_bonds;
  ErrorSink errors;
};

// The transpose: grad_positions[j] += grad[e], grad_positions[i] -= grad[e], grad_cell[b, k] += s_k grad[e]. Sums for a
// position go over the bonds of its row with the center's sign, then over those of its neighbor row; sums for a cell go
// in float64 over tiles of bonds (segment_sums.h).
template <typename T>
struct BondVectorsBackwardArgs {
  const T* grad;                    // [num_bonds, 3]
  const int64_t* pairs;             // [2, num_bonds], sorted by center
  const int32_t* shifts;            // [num_bonds, 3]
  const int64_t* ptr;               // [num_cells + 1]; null: one crystal
  const int64_t* row_ptr;           // [num_atoms + 1]
  const int64_t* neighbor_order;    // [num_bonds]
  const int64_t* neighbor_row_ptr;  // [num_atoms + 1]
  T* grad_positions;                // [num_atoms, 3]
  T* grad_cell;                     // [num_cells, 3, 3]
  void* workspace;                  // bond_vectors_workspace(num_bonds) bytes
  int64_t num_atoms;
  int64_t num_cells;
  int64_t num_bonds;
  ErrorSink errors;
};

int64_t bond_vectors_workspace(int64_t num_bonds);

// Defined for T = float and double.
template <typename T>
const char* launch_bond_vectors(const BondVectorsArgs<T>& args, void* stream);
template <typename T>
const char* launch_bond_vectors_backward(const BondVectorsBackwardArgs<T>& args, void* stream);

}  // namespace dtnn::cuda
