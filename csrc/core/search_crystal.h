// SPDX-License-Identifier: MIT
// One crystal, checked and reduced, and the bond criterion: shared by the two ways of searching a crystal.
#pragma once

#include <cstdint>

#include "lattice.h"
#include "neighbor_list.h"

namespace dtnn {

// One crystal of the batch. Searches work on approximate distances, which are safe outside a band of +- tolerance
// around the cutoff; inside the band, `is_bond` decides.
struct SearchCrystal {
  const double* positions;  // [num_atoms, 3], of this crystal only
  int64_t num_atoms;
  int64_t first_atom;  // its number in the batch
  double cutoff;
  bool half;
  bool self_pairs;
  Lattice lattice;
  Vec3 lowest, highest;  // range of the coordinates along lattice.basis, relative to the first atom
  double tolerance;      // Angstrom; above any rounding error of an approximate distance near the cutoff

  Vec3 difference(int64_t i, int64_t j) const {
    const double *a = positions + 3 * i, *b = positions + 3 * j;
    return {b[0] - a[0], b[1] - a[1], b[2] - a[2]};
  }
  // The contract's criterion, to the bit.
  bool is_bond(int64_t i, int64_t j, const Shift& shift) const {
    const Vec3 between = difference(i, j);
    const std::array<Vec3, 3>& cell = lattice.cell;
    const double s0 = shift[0], s1 = shift[1], s2 = shift[2];
    double squared[3];
    for (int x = 0; x < 3; ++x) {
      const double d = between[x] + ((s0 * cell[0][x] + s1 * cell[1][x]) + s2 * cell[2][x]);
      squared[x] = d * d;
    }
    return (squared[0] + squared[1]) + squared[2] < cutoff * cutoff;
  }
};

// Checks crystal `index` of the batch; throws with its number in the message.
SearchCrystal make_search_crystal(const NeighborListInput& input, int64_t index);

}  // namespace dtnn
