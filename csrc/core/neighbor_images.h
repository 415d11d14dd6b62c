// SPDX-License-Identifier: MIT
// Small crystals: all pairs of atoms times a table of the lattice translations that can matter.
#pragma once

#include <cstdint>
#include <vector>

#include "search_crystal.h"

namespace dtnn {

// For each pair i <= j, with r_j taken in its nearest cell, one bit for each translation of the table says whether it
// is a bond. The table is symmetric, so the bits of (j, i) are those of (i, j) read backwards: half the work, and both
// directions agree to the bit because every rounding in the criterion is odd in d.
class ImageSearch {
 public:
  explicit ImageSearch(const SearchCrystal& crystal);

  // Cost in candidate distances; to compare with GridSearch::estimate.
  static double estimate(const SearchCrystal& crystal);
  static double table_radius(const SearchCrystal& crystal);

  // Number of bonds of each atom, [num_atoms].
  void count(int64_t* counts) const;
  // Writes the crystal's bonds in order, starting at the number `start`.
  void write(const NeighborListOutput& output, int64_t start) const;

 private:
  int64_t pair_index(int64_t i, int64_t j) const { return i * num_atoms_ - i * (i - 1) / 2 + (j - i); }

  int64_t num_atoms_;
  int64_t first_atom_;
  bool half_;
  int64_t num_words_;                // 64-bit words of bits a pair
  std::vector<Shift> translations_;  // the table
  std::vector<Shift> offsets_;       // of each pair: takes r_j to its cell nearest to r_i
  std::vector<uint64_t> bits_;       // [pairs, num_words_]
};

}  // namespace dtnn
