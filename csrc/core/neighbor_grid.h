// SPDX-License-Identifier: MIT
// Large crystals: a grid of bins, cost linear in the atoms.
#pragma once

#include <cstdint>
#include <vector>

#include "bin_grid.h"
#include "key_arena.h"

namespace dtnn {

// Atoms are searched bin after bin, where neighbors share their candidates, and written in their own order.
class GridSearch {
 public:
  GridSearch(const SearchCrystal& crystal, const Parallel& parallel);

  // Cost in candidate distances; to compare with ImageSearch::estimate.
  static double estimate(const SearchCrystal& crystal) { return BinGrid::estimate(crystal); }

  // The number of tasks of the search. Each task finds the bonds of its atoms, writes the number of bonds of each atom
  // into `counts`, and returns their sum.
  int64_t num_tasks() const { return static_cast<int64_t>(task_bin_.size()) - 1; }
  int64_t search(int64_t task, KeyArena& arena, int64_t* counts);

  // Writes the bonds of the atoms [begin, end) in order; those of atom `begin` go to row_ptr[0] .. row_ptr[1], and so
  // on.
  void write(int64_t begin, int64_t end, const int64_t* row_ptr, const NeighborListOutput& output) const;

  int64_t num_atoms() const { return crystal_.num_atoms; }
  int64_t first_atom() const { return crystal_.first_atom; }

 private:
  int64_t num_own_bins() const { return grid_.axis[0].num_bins * grid_.axis[1].num_bins * grid_.axis[2].num_bins; }
  // Index of the own bin `number` among all bins.
  std::array<int64_t, 3> own_bin(int64_t number) const;

  SearchCrystal crystal_;
  BinGrid grid_;
  std::vector<int64_t> task_bin_;      // the own bins of task t are task_bin_[t] .. task_bin_[t+1]
  std::vector<const int32_t*> found_;  // of each atom: its bonds as sorted keys, in the arena
};

}  // namespace dtnn
