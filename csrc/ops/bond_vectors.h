// SPDX-License-Identifier: MIT
// bond_vectors(positions [N, 3], cell [B, 3, 3], pairs [2, E], shifts [E, 3], ptr [B+1]?, row_ptr [N+1]?,
//              neighbor_order [E]?, neighbor_row_ptr [N+1]?) -> vectors [E, 3]
//
//   vectors[e] = (r_j - r_i) + ((s_0 a + s_1 b) + s_2 c),   i = pairs[0, e], j = pairs[1, e], s = shifts[e],
//
// with the rows a, b, c of the cell of the crystal that owns i; crystal k owns the atoms ptr[k]..ptr[k+1]. Without ptr
// all atoms are one crystal's and B = 1. Every step is rounded once, as written, so the reference implementation has
// the same bits.
//
// bond_vectors_backward(grad [E, 3], pairs, shifts, ptr?, num_atoms, num_cells, row_ptr?, neighbor_order?,
//                       neighbor_row_ptr?) -> (grad_positions [N, 3], grad_cell [B, 3, 3])
//   the transpose: grad_positions[j] += grad[e], grad_positions[i] -= grad[e], grad_cell[b, k] += s_k grad[e]
//
// Both are linear, and each is the other's derivative. The last three arguments say that pairs is sorted by center, and
// give its rows and the bonds sorted by neighbor. Only the backward on CUDA uses them; without row_ptr it has to sort
// the bonds by center, without the others by neighbor.
// Sums have a fixed order, those of the cell in float64: on the CPU over the bonds as stored, where a crystal of 65,536
// bonds or more is summed in parts that follow from the bonds, and the parts in order; on CUDA over an atom's bonds as
// center and then as neighbor, and over tiles of bonds (cuda/segment_sums.h). So results are the same to the bit on
// every call, and for any number of threads. Empties: N, E and B may be 0. Errors: an index out of range, ends in two
// crystals, ptr not from 0 to N. On CUDA they come later (cuda/device_errors.h).
#pragma once

#include "optional_tensor.h"

namespace dtnn {

// The bonds and the crystals that own them: checked for shape, dtype and device, and contiguous.
struct CrystalBonds {
  Tensor pairs;
  Tensor shifts;
  OptionalTensor ptr;
  int64_t num_atoms;
  int64_t num_cells;
  OptionalTensor row_ptr;  // pairs is sorted by center
  OptionalTensor neighbor_order;
  OptionalTensor neighbor_row_ptr;

  int64_t num_bonds() const { return pairs.size(1); }
};

// `values` is the floating-point argument that the others are compared with.
CrystalBonds check_crystal_bonds(const char* op, const char* values_name, const Tensor& values, const Tensor& pairs,
                                 const Tensor& shifts, const OptionalTensor& ptr, int64_t num_atoms, int64_t num_cells);

// Checks the arguments about the order of bonds, and keeps them.
void check_bond_order(const char* op, const char* values_name, const Tensor& values, CrystalBonds& bonds,
                      const OptionalTensor& row_ptr, const OptionalTensor& neighbor_order,
                      const OptionalTensor& neighbor_row_ptr);

// Checks that ptr (on the CPU) ascends from 0 to num_atoms.
void check_ptr_values(const char* op, const int64_t* ptr, int64_t num_crystals, int64_t num_atoms);

// All tensors are contiguous.
void bond_vectors_cpu(const Tensor& positions, const Tensor& cell, const CrystalBonds& bonds, Tensor& vectors);
void bond_vectors_backward_cpu(const Tensor& grad, const CrystalBonds& bonds, Tensor& grad_positions,
                               Tensor& grad_cell);
void bond_vectors_cuda(const Tensor& positions, const Tensor& cell, const CrystalBonds& bonds, Tensor& vectors);
void bond_vectors_backward_cuda(const Tensor& grad, const CrystalBonds& bonds, Tensor& grad_positions,
                                Tensor& grad_cell);

}  // namespace dtnn
