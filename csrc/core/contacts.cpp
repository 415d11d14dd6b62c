// SPDX-License-Identifier: MIT
#include "contacts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "crystal_grid.h"

namespace dtnn {

void nearest_contacts(const PeriodicCrystals& crystals, const double* cutoffs, double* fractions, int64_t* neighbors) {
  for (int64_t b = 0; b < crystals.num_crystals; ++b) {
    const int64_t start = crystals.ptr[b], num_atoms = crystals.ptr[b + 1] - start;
    const double* const radii = crystals.radii + start;
    double* const nearest = fractions + start;
    int64_t* const neighbor = neighbors + start;
    std::fill(nearest, nearest + num_atoms, std::numeric_limits<double>::infinity());
    std::fill(neighbor, neighbor + num_atoms, -1);
    const CrystalGrid grid(crystals.positions + 3 * start, num_atoms, crystals.cells + 9 * b, cutoffs[b]);
    for (int64_t i = 0; i < num_atoms; ++i) {
      grid.visit_neighbors(i, [&](int64_t j, const Shift&, double squared) {
        const double fraction = std::sqrt(squared) / (radii[i] + radii[j]);
        if (fraction < nearest[i]) nearest[i] = fraction, neighbor[i] = start + j;
        return true;
      });
    }
  }
}

AtomPair closest_pair(const double* positions, int64_t num_atoms, const double cell[9], double max_distance) {
  AtomPair closest{-1, -1, max_distance};
  double cutoff = max_distance;
  CrystalGrid grid(positions, num_atoms, cell, cutoff);
  for (int64_t i = 0; i < num_atoms && closest.distance > 0; ++i) {
    grid.visit_neighbors<true>(i, [&](int64_t j, const Shift&, double squared) {
      const double distance = std::sqrt(squared);
      if (j != i && distance < closest.distance) closest = {i, j, distance};
      return true;
    });
    // Where many atoms are at one place, a grid for the distance found has few of them in each bin. The atoms up to i
    // need no second look: all of their pairs have been seen.
    if (closest.distance > 0 && closest.distance < 0.5 * cutoff) {
      cutoff = closest.distance;
      grid = CrystalGrid(positions, num_atoms, cell, cutoff);
    }
  }
  return closest;
}

}  // namespace dtnn
