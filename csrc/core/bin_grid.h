// SPDX-License-Identifier: MIT
// The atoms of one large crystal and their periodic images, sorted into bins.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel.h"
#include "search_crystal.h"

namespace dtnn {

// The atoms, taken into the reduced cell, and their periodic images near it ("points") are sorted into bins along the
// reduced basis. The bins of one row along the last direction lie one after another in memory, so the points near an
// atom are a few contiguous runs for the SIMD scan.
class BinGrid {
 public:
  // Bins along one direction. Images of the cell add bins at both ends; in between are the cell's own.
  struct Axis {
    double lowest;         // coordinate where the first own bin begins
    double bins_per_unit;  // of the coordinate
    int64_t num_bins;      // own bins: of the cell, or of the atoms' range where it is not periodic
    int64_t reach;         // bins to look at on either side
    int64_t first_own;     // where they begin among all bins
    int64_t num_extended;  // all bins

    int64_t images() const { return first_own == 0 ? 0 : (reach + num_bins - 1) / num_bins; }
  };

  BinGrid(const SearchCrystal& crystal, const Parallel& parallel);

  // Cost of a search with it, in candidate distances.
  static double estimate(const SearchCrystal& crystal);

  int64_t flat_bin(int64_t b0, int64_t b1, int64_t b2) const {
    return (b0 * axis[1].num_extended + b1) * axis[2].num_extended + b2;
  }
  // A point's key is (atom << image_bits) | number of its translation: keys order the points as the contract orders
  // neighbors and shifts. Translations are numbered in the lexicographic order of their shifts.
  int64_t atom_of(int64_t key) const { return key >> image_bits; }
  // The key of the atom itself.
  int64_t own_key(int64_t atom) const { return (atom << image_bits) | no_translation; }
  // The shift of the bond from atom i to the point.
  Shift bond_shift(int64_t i, int64_t key) const {
    const Shift &image = image_shift[key & ((int64_t{1} << image_bits) - 1)], &there = home[atom_of(key)];
    Shift shift;
    for (int m = 0; m < 3; ++m) shift[m] = image[m] + there[m] - home[i][m];
    return shift;
  }

  Axis axis[3];
  std::vector<Shift> home;         // of each atom: the shift that took it into the reduced cell
  std::vector<Shift> image_shift;  // the translations
  int64_t no_translation = 0;      // the number of the zero translation
  int image_bits = 0;
  std::vector<int64_t> bin_start;  // of each bin, in the points
  std::vector<double> x, y, z;     // the points, with kScanPadding behind them
  std::vector<int32_t> key;

 private:
  using Bin = std::array<int32_t, 3>;
  // First and last translation, in steps along one direction, that bring the points of an own bin into the bins.
  struct Steps {
    int32_t first, last;
  };

  void make_axes(const SearchCrystal& crystal);
  void list_translations(const Lattice& lattice, int64_t num_atoms);
  Vec3 place_atom(const SearchCrystal& crystal, int64_t i, Bin& bin);
  void sort_points(const SearchCrystal& crystal, const Parallel& parallel);
  template <typename Visit>
  void for_each_image(const Bin& bin, const Visit& visit) const;
  int64_t steps_index(int64_t s0, int64_t s1, int64_t s2) const {
    const int64_t n0 = axis[0].images(), n1 = axis[1].images(), n2 = axis[2].images();
    return ((s0 + n0) * (2 * n1 + 1) + s1 + n1) * (2 * n2 + 1) + s2 + n2;
  }

  std::vector<Steps> steps_[3];        // for each own bin
  std::vector<Vec3> image_vector_;     // the translations in space
  std::vector<int64_t> image_number_;  // of each translation, by steps_index
};

}  // namespace dtnn
