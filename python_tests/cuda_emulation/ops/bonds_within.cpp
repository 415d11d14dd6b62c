// SPDX-License-Identifier: MIT
#include "bonds_within.h"

#include "neighbor_cases.h"

namespace {

using dtnn::cuda::BondsWithinArgs;

// The selection between its count and its write.
struct {
  BondsWithinArgs args;
  const int64_t* row_ptr;
} current;

const char* count(const BondsWithinArgs& args, int64_t* status, int64_t* row_ptr) {
  current = {args, row_ptr};
  std::vector<int64_t> tile_sums(dtnn::cuda::num_prefix_tiles(args.num_atoms));
  return dtnn::cuda::launch_bonds_within_count(args, status, row_ptr, tile_sums.data(), nullptr);
}

const char* write(const dtnn::cuda::BondsWithinOutput& output) {
  return dtnn::cuda::launch_bonds_within_write(current.args, current.row_ptr, output, nullptr);
}

}  // namespace

extern "C" {
const char* bonds_within_count(const double* positions, const double* cells, const int64_t* ptr, const double* cutoffs,
                               const int64_t* pairs, const int32_t* shifts, const int64_t* row_ptr,
                               const double* cutoff, int64_t num_atoms, int64_t num_crystals, int64_t num_bonds,
                               int64_t shared_cell, int64_t* status, int64_t* new_row_ptr) {
  return count({positions, cells, ptr, cutoffs, pairs, pairs + num_bonds, shifts, row_ptr, *cutoff, num_atoms,
                num_crystals, num_bonds, shared_cell != 0},
               status, new_row_ptr);
}
const char* bonds_within_write(int64_t* kept, int64_t* centers, int64_t* neighbors, int32_t* shifts) {
  return write({kept, centers, neighbors, shifts});
}
}

DTNN_CASE(bonds_within) {
  const dtnn::cases::BoxBatch batch({3, 0, 1, 40, 9, 0}, {4, 5, 3}, 1);
  const auto longer = batch.bonds(4.5, false), shorter = batch.bonds(3.0, false);
  const int64_t num_bonds = static_cast<int64_t>(longer.size()), num_atoms = batch.ptr.back();
  std::vector<int64_t> pairs(2 * num_bonds), row_ptr(num_atoms + 1, 0), new_row_ptr(num_atoms + 1);
  std::vector<int32_t> shifts(3 * num_bonds);
  for (int64_t bond = 0; bond < num_bonds; ++bond) {
    pairs[bond] = longer[bond][0], pairs[num_bonds + bond] = longer[bond][1];
    for (int m = 0; m < 3; ++m) shifts[3 * bond + m] = static_cast<int32_t>(longer[bond][2 + m]);
    for (int64_t atom = longer[bond][0] + 1; atom <= num_atoms; ++atom) row_ptr[atom] = bond + 1;
  }
  const BondsWithinArgs args{batch.positions.data(),
                             batch.cells.data(),
                             batch.ptr.data(),
                             nullptr,
                             pairs.data(),
                             pairs.data() + num_bonds,
                             shifts.data(),
                             row_ptr.data(),
                             3.0,
                             num_atoms,
                             batch.num_crystals,
                             num_bonds,
                             false};
  int64_t status[2];
  if (const char* error = count(args, status, new_row_ptr.data())) return error;
  const int64_t num_kept = static_cast<int64_t>(shorter.size());
  if (status[0] != 0 || status[1] != num_kept) return "wrong number of bonds";
  std::vector<int64_t> kept(num_kept), centers(num_kept), neighbors(num_kept);
  std::vector<int32_t> new_shifts(3 * num_kept);
  if (const char* error = write({kept.data(), centers.data(), neighbors.data(), new_shifts.data()})) return error;
  for (int64_t bond = 0; bond < num_kept; ++bond) {
    if (longer[kept[bond]] != shorter[bond] || neighbors[bond] != shorter[bond][1] || centers[bond] != shorter[bond][0])
      return "wrong bond";
  }
  for (const int64_t bad : {int64_t{-1}, num_atoms, int64_t{1} << 62}) {
    for (std::vector<int64_t>* place : {&pairs, &row_ptr}) {
      for (const size_t index : {size_t{0}, place->size() - 1, place->size() / 2}) {
        const int64_t good = (*place)[index];
        (*place)[index] = bad;
        if (const char* error = count(args, status, new_row_ptr.data())) return error;
        if (status[0] == 0) return "a bad index was not reported";
        (*place)[index] = good;
      }
    }
  }
  return "";
}
