// SPDX-License-Identifier: MIT
// Neighbor lists of many crystals at once, free of torch: the torch op and the NumPy module are thin fronts of this
// file.
//
// A bond (i, j, S) of crystal b joins two of its atoms and an integer shift S, zero along non-periodic directions, with
//     d = (r_j - r_i) + ((S0*a + S1*b) + S2*c),        dx*dx + dy*dy + dz*dz < cutoff*cutoff,
// in float64, every operation rounded once, in this order (no fused multiply-add: compile with -ffp-contract=off). The
// reference implementation computes the same, so both agree in every bit, for bonds at the cutoff too. A cutoff of 0
// means no bonds. An atom is its own neighbor with S = 0 only where self pairs are asked for, then at any cutoff, in
// half lists too; two atoms at one place are neighbors at distance 0.
// Order: by i, then j, then S lexicographically. Half lists keep i < j, and i == j with the first nonzero of S
// positive, besides self pairs. The result does not depend on the number of threads or the instruction set. Counts are
// 64-bit; there is no cap.
#pragma once

#include <cstdint>
#include <memory>

#include "parallel.h"

namespace dtnn {

// Views of the caller's arrays, contiguous, which must live until `write_bonds` returned.
struct NeighborListInput {
  const double* positions;  // [num_atoms, 3]
  const double* cells;      // [num_crystals, 3, 3], or [3, 3] for all where shared_cell; rows are the vectors
  const bool* pbc;          // [num_crystals, 3], or [3] for all where shared_pbc
  const int64_t* ptr;       // [num_crystals + 1], from 0 to num_atoms, never falling: checked by the caller
  int64_t num_atoms;
  int64_t num_crystals;
  bool shared_cell;
  bool shared_pbc;
  const double* cutoffs;  // [num_crystals], or [1] for all where shared_cutoff
  bool shared_cutoff;
  bool half;
  bool self_pairs;
};

// Where the bonds go; the caller allocates once it knows their number.
struct NeighborListOutput {
  int64_t* centers;    // [num_bonds], i
  int64_t* neighbors;  // [num_bonds], j
  int32_t* shifts;     // [num_bonds, 3], S
  int64_t* row_ptr;    // [num_atoms + 1], bonds of atom i are row_ptr[i] .. row_ptr[i+1]
};

// The search in two steps, for the caller to allocate in between.
class NeighborSearch {
 public:
  // Finds all bonds. Throws std::invalid_argument for a bad argument: NaN or infinite positions or cell, a negative,
  // NaN or infinite cutoff, periodic vectors without volume, shifts beyond int32; std::length_error when the list would
  // not fit into this machine's memory. Messages say which crystal, atom and argument, without the name of the op.
  NeighborSearch(const NeighborListInput& input, const Parallel& parallel);
  ~NeighborSearch();
  NeighborSearch(const NeighborSearch&) = delete;
  NeighborSearch& operator=(const NeighborSearch&) = delete;

  int64_t num_bonds() const;
  void write_bonds(const NeighborListOutput& output, const Parallel& parallel) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dtnn
