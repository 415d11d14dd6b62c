// SPDX-License-Identifier: MIT
// The CUDA kernels of bonds_within as plain C++ functions; the common rules of launchers.h hold. Two steps, as for
// neighbor_list: count, then write into arrays of the right size.
#pragma once

#include <cstdint>

namespace dtnn::cuda {

struct BondsWithinArgs {
  const double* positions;   // [num_atoms, 3]
  const double* cells;       // [num_crystals, 3, 3], or [3, 3] where shared_cell
  const int64_t* ptr;        // [num_crystals + 1]; null for one crystal
  const double* cutoffs;     // [num_crystals]; null where all have `cutoff`
  const int64_t* centers;    // [num_bonds]
  const int64_t* neighbors;  // [num_bonds]
  const int32_t* shifts;     // [num_bonds, 3]
  const int64_t* row_ptr;    // [num_atoms + 1]
  double cutoff;
  int64_t num_atoms;
  int64_t num_crystals;
  int64_t num_bonds;
  bool shared_cell;
};

// The status words, on the device; the host reads them once. kBadWithin is not 0 when any value is bad: those that are
// not finite, negative cutoffs, a `ptr` or `row_ptr` that does not fit, bonds outside of their row or crystal.
enum BondsWithinStatus { kBadWithin, kNumWithin, kNumWithinWords };

struct BondsWithinOutput {
  int64_t* kept;       // [num_within]
  int64_t* centers;    // [num_within]
  int64_t* neighbors;  // [num_within]
  int32_t* shifts;     // [num_within, 3]
};

// new_row_ptr: [num_atoms + 1]. tile_sums: [num_prefix_tiles(num_atoms)].
const char* launch_bonds_within_count(const BondsWithinArgs& args, int64_t* status, int64_t* new_row_ptr,
                                      int64_t* tile_sums, void* stream);
// After a count that found nothing bad.
const char* launch_bonds_within_write(const BondsWithinArgs& args, const int64_t* new_row_ptr,
                                      const BondsWithinOutput& output, void* stream);

}  // namespace dtnn::cuda
