// SPDX-License-Identifier: MIT
// The atoms of one fully periodic crystal in bins, whose neighbors are visited without a list in memory.
//
// For questions about a crystal that need each pair once: closest pairs, what hangs together, histograms of distances.
// Neighbor lists for models come from neighbor_list.h, which decides bonds at the cutoff to the bit.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "lattice.h"

namespace dtnn {

class CrystalGrid {
 public:
  // Takes `positions` [num_atoms, 3] into the compact cell of `cell` (rows are lattice vectors), for visits of all
  // pairs closer than `cutoff`. All numbers are finite and the vectors independent, which the caller has checked.
  // Throws std::length_error for a cutoff of very many lattice vectors.
  CrystalGrid(const double* positions, int64_t num_atoms, const double cell[9], double cutoff);

  // Calls visit(j, image, squared distance) for each neighbor j of atom i closer than the cutoff, but not for the atom
  // itself, in a fixed order; with `half` only for j >= i, so that visits of all atoms see each pair once (an atom and
  // its own image from both sides). `image` is the lattice translation of j in steps along the compact cell, for atoms
  // that are inside of it. Ends early, and returns false, when `visit` does.
  template <bool half = false, typename Visit>
  bool visit_neighbors(int64_t i, const Visit& visit) const;

  int64_t num_atoms() const { return static_cast<int64_t>(place_.size()); }

 private:
  struct Point {
    double x, y, z;
    int64_t atom;
    int64_t bin;
  };

  int64_t bin_number(int64_t b0, int64_t b1, int64_t b2) const { return (b0 * num_bins_[1] + b1) * num_bins_[2] + b2; }
  // A bin's place in memory. Where there are many more bins than atoms, several bins share a place.
  int64_t bucket(int64_t bin) const {
    return is_sparse_ ? static_cast<int64_t>((static_cast<uint64_t>(bin) * 0x9E3779B97F4A7C15u) >> hash_shift_) : bin;
  }

  std::array<Vec3, 3> cell_;
  double squared_cutoff_;
  int64_t num_bins_[3], reach_[3];  // bins along each direction; bins to look at on either side
  bool is_sparse_;
  int hash_shift_ = 0;
  std::vector<int64_t> bucket_start_;
  std::vector<Point> points_;                // sorted by bucket, then by atom
  std::vector<int64_t> place_;               // of each atom among the points
  std::vector<std::array<int32_t, 3>> bin_;  // of each atom
};

template <bool half, typename Visit>
bool CrystalGrid::visit_neighbors(int64_t i, const Visit& visit) const {
  const Point& center = points_[place_[i]];
  const std::array<int32_t, 3>& bin = bin_[i];
  // The bins bin - reach ... bin + reach, taken into the cell; `image` counts how often the border was crossed.
  int64_t first[3];
  Shift image_of_first;
  for (int k = 0; k < 3; ++k) {
    const int64_t lowest = bin[k] - reach_[k];
    const int64_t crossed = lowest < 0 ? -((-lowest + num_bins_[k] - 1) / num_bins_[k]) : 0;
    image_of_first[k] = static_cast<int32_t>(crossed);
    first[k] = lowest - crossed * num_bins_[k];
  }
  Shift image;
  image[0] = image_of_first[0];
  for (int64_t step0 = -reach_[0], b0 = first[0]; step0 <= reach_[0]; ++step0, ++b0) {
    if (b0 == num_bins_[0]) b0 = 0, ++image[0];
    image[1] = image_of_first[1];
    for (int64_t step1 = -reach_[1], b1 = first[1]; step1 <= reach_[1]; ++step1, ++b1) {
      if (b1 == num_bins_[1]) b1 = 0, ++image[1];
      image[2] = image_of_first[2];
      for (int64_t step2 = -reach_[2], b2 = first[2]; step2 <= reach_[2]; ++step2, ++b2) {
        if (b2 == num_bins_[2]) b2 = 0, ++image[2];
        const int64_t number = bin_number(b0, b1, b2), place = bucket(number);
        const int64_t begin = bucket_start_[place], end = bucket_start_[place + 1];
        if (begin == end) continue;
        double from[3];
        const double coordinates[3] = {center.x, center.y, center.z};
        for (int m = 0; m < 3; ++m)
          from[m] = ((image[0] * cell_[0][m] + image[1] * cell_[1][m]) + image[2] * cell_[2][m]) - coordinates[m];
        const bool is_home = image[0] == 0 && image[1] == 0 && image[2] == 0;
        for (int64_t p = begin; p < end; ++p) {
          const Point& point = points_[p];
          if (half && point.atom < i) continue;
          const double dx = point.x + from[0], dy = point.y + from[1], dz = point.z + from[2];
          const double squared = (dx * dx + dy * dy) + dz * dz;
          if (squared >= squared_cutoff_ || point.bin != number || (is_home && point.atom == i)) continue;
          if (!visit(point.atom, image, squared)) return false;
        }
      }
    }
  }
  return true;
}

}  // namespace dtnn
