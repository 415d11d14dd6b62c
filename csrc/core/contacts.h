// SPDX-License-Identifier: MIT
// Closest neighbors of the atoms of fully periodic crystals, without lists of bonds: cost and memory are linear in the
// atoms, also where many of them are at one place.
#pragma once

#include <cstdint>

namespace dtnn {

// Views of the caller's arrays. All numbers are finite and the lattice vectors of each cell independent.
struct PeriodicCrystals {
  const double* positions;  // [num_atoms, 3], Angstrom
  const double* cells;      // [num_crystals, 3, 3], rows are lattice vectors
  const int64_t* ptr;       // [num_crystals + 1], crystal b owns the atoms ptr[b] .. ptr[b + 1]
  const double* radii;      // [num_atoms], Angstrom
  int64_t num_crystals;
};

// For each atom, the neighbor closer than cutoffs[b] whose distance is the smallest fraction of the sum of both radii;
// images of the atom itself count. `fractions` [num_atoms] are infinite and `neighbors` [num_atoms] -1 where there is
// none. Of fractions that are equal up to rounding, the neighbor of the lowest number is taken.
void nearest_contacts(const PeriodicCrystals& crystals, const double* cutoffs, double* fractions, int64_t* neighbors);

// Two different atoms, first < second, and their distance; first = -1 for none.
struct AtomPair {
  int64_t first, second;
  double distance;
};

// The closest pair of different atoms of one crystal, images included, if closer than `max_distance`. Of pairs that are
// equally close up to rounding, the one of the lowest numbers is taken.
AtomPair closest_pair(const double* positions, int64_t num_atoms, const double cell[9], double max_distance);

}  // namespace dtnn
