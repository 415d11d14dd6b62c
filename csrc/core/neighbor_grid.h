// SPDX-License-Identifier: MIT
// Large crystals: a grid of bins, cost linear in the atoms.
#pragma once

#include <cstdint>
#include <vector>

#include "neighbor_crystal.h"

namespace dtnn {

// The atoms, taken into the reduced cell, and their periodic images near it ("points") are sorted into bins along the
// reduced basis. The bins of one row along the last direction lie one after another in memory, so the points near an
// atom are a few contiguous runs for the SIMD scan.
class GridSearch {
 public:
  explicit GridSearch(const SearchCrystal& crystal);

  // Cost in candidate distances; to compare with ImageSearch::estimate.
  static double estimate(const SearchCrystal& crystal);

  // The bonds of the atoms [begin, end) as sorted keys, and the number of each atom's bonds.
  void search(int64_t begin, int64_t end, std::vector<int64_t>& keys, int64_t* counts) const;
  // Writes those bonds in order; bonds of atom `begin` go to row_ptr[0] .. row_ptr[1], and so on.
  void write(int64_t begin, int64_t end, const std::vector<int64_t>& keys, const int64_t* row_ptr,
             const NeighborListOutput& output) const;

  int64_t num_atoms() const { return crystal_.num_atoms; }
  int64_t first_atom() const { return crystal_.first_atom; }

 private:
  // Bins along one direction.
  struct Axis {
    double lowest;         // coordinate where bin 0 begins
    double bins_per_unit;  // of the coordinate
    int64_t num_bins;      // of the cell, or of the atoms' range where it is not periodic
    int64_t reach;         // bins to look at on either side
    int64_t images;        // translations -images .. images bring points into reach
    int64_t num_extended;  // bins with those of the periodic images
  };

  void make_axes();
  void place_atoms();
  void list_translations();
  void sort_points();
  int64_t extended_bin(int k, int64_t bin) const {
    return k < crystal_.lattice.num_periodic ? bin + axis_[k].reach : bin;
  }
  int64_t steps_index(int64_t s0, int64_t s1, int64_t s2) const {
    const int64_t n0 = axis_[0].images, n1 = axis_[1].images, n2 = axis_[2].images;
    return ((s0 + n0) * (2 * n1 + 1) + s1 + n1) * (2 * n2 + 1) + s2 + n2;
  }
  Shift bond_shift(int64_t i, int64_t key) const;

  SearchCrystal crystal_;
  Axis axis_[3];
  std::vector<Vec3> placed_;                         // the atoms in the reduced cell
  std::vector<Shift> home_;                          // the shifts that took them there
  std::vector<std::array<int32_t, 3>> bin_;          // their bins
  std::vector<std::array<int64_t, 3>> image_steps_;  // translations along the reduced basis
  std::vector<Shift> image_shift_;                   // the same along the cell, in lexicographic order
  std::vector<int64_t> image_number_;                // of each translation, by steps_index
  int64_t no_translation_ = 0;                       // the number of the zero translation
  int image_bits_ = 0;                               // a key is (neighbor << image_bits_) | number of the translation
  std::vector<int64_t> bin_start_;                   // of each extended bin, in the points
  std::vector<double> x_, y_, z_;                    // the points
  std::vector<int64_t> key_;
};

}  // namespace dtnn
