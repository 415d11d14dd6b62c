// SPDX-License-Identifier: MIT
// Shared by the CPU kernels that make or take neighbor lists: torch's threads, checks of values, and tasks of whole
// rows.
#pragma once

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "crystal_batch.h"
#include "sorted_bonds.h"

namespace dtnn {

// Torch's own pool, so that threads are not oversubscribed inside a training step.
inline Parallel torch_threads() {
  return {static_cast<int>(torch::stable::get_num_threads()),
          [](int num_workers, const std::function<void(int)>& work) {
            torch::stable::parallel_for(0, num_workers, 1, [&](int64_t first, int64_t last) {
              for (int64_t worker = first; worker < last; ++worker) work(static_cast<int>(worker));
            });
          }};
}

// ptr, or [0, N] for one crystal; its values checked.
inline std::vector<int64_t> crystal_bounds(const char* op, const CrystalBatch& batch) {
  const int64_t num_atoms = batch.num_atoms(), num_crystals = batch.num_crystals();
  if (!batch.ptr) return {0, num_atoms};
  const int64_t* ptr = batch.ptr->const_data_ptr<int64_t>();
  DTNN_CHECK(ptr[0] == 0 && ptr[num_crystals] == num_atoms, op, ": expected `ptr` from 0 to the number of atoms, ",
             num_atoms, ", got ", ptr[0], " to ", ptr[num_crystals]);
  for (int64_t b = 0; b < num_crystals; ++b) {
    DTNN_CHECK(ptr[b] <= ptr[b + 1], op, ": expected `ptr` that never falls, got ", ptr[b], " before ", ptr[b + 1],
               " at crystal ", b);
  }
  return {ptr, ptr + num_crystals + 1};
}

// Checks that row_ptr rises from 0 to the number of bonds.
inline void check_row_ptr_values(const char* op, const SortedBonds& bonds) {
  const int64_t* row_ptr = bonds.row_ptr.const_data_ptr<int64_t>();
  const int64_t num_atoms = bonds.num_atoms();
  DTNN_CHECK(row_ptr[0] == 0 && row_ptr[num_atoms] == bonds.num_bonds(), op,
             ": expected `row_ptr` from 0 to the number of bonds, ", bonds.num_bonds(), ", got ", row_ptr[0], " to ",
             row_ptr[num_atoms]);
  for (int64_t i = 0; i < num_atoms; ++i) {
    DTNN_CHECK(row_ptr[i] <= row_ptr[i + 1], op, ": expected `row_ptr` that never falls, got ", row_ptr[i], " before ",
               row_ptr[i + 1], " at atom ", i);
  }
}

// First atoms of tasks of whole rows with about `bonds_per_task` bonds, and the number of atoms at the end.
inline std::vector<int64_t> rows_of_tasks(const int64_t* row_ptr, int64_t num_atoms, int64_t bonds_per_task) {
  std::vector<int64_t> first_atom{0};
  for (int64_t atom = 0; atom < num_atoms; first_atom.push_back(atom)) {
    const int64_t target = row_ptr[atom] + bonds_per_task;
    atom = std::max(atom + 1, std::upper_bound(row_ptr + atom, row_ptr + num_atoms + 1, target) - row_ptr - 1);
  }
  return first_atom;
}

}  // namespace dtnn
