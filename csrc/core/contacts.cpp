// SPDX-License-Identifier: MIT
#include "contacts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "crystal_grid.h"

namespace dtnn {
namespace {

// Lengths that differ by less than this, relatively, are equal up to rounding.
constexpr double kEqual = 1e-11;
// Distances below this are rounding errors of 0. Angstrom
constexpr double kZero = 1e-12;

}  // namespace

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
        const bool is_equal = std::abs(fraction - nearest[i]) <= kEqual * fraction;
        if (is_equal ? start + j < neighbor[i] : fraction < nearest[i]) neighbor[i] = start + j;
        nearest[i] = std::min(nearest[i], fraction);
        return true;
      });
    }
  }
}

AtomPair closest_pair(const double* positions, int64_t num_atoms, const double cell[9], double max_distance) {
  AtomPair closest{-1, -1, max_distance};
  double cutoff = max_distance;
  CrystalGrid grid(positions, num_atoms, cell, cutoff);
  for (int64_t i = 0; i < num_atoms && closest.distance > kZero; ++i) {
    grid.visit_neighbors<true>(i, [&](int64_t j, const Shift&, double squared) {
      if (j == i) return true;
      const double distance = std::sqrt(squared);
      const bool is_equal =
          closest.first >= 0 && std::abs(distance - closest.distance) <= kEqual * closest.distance + kZero;
      if (is_equal ? i == closest.first && j < closest.second : distance < closest.distance)
        closest.first = i, closest.second = j;
      closest.distance = std::min(closest.distance, distance);
      return true;
    });
    // Where many atoms are at one place, a grid for the distance found has few of them in each bin. The atoms up to i
    // need no second look: all of their pairs have been seen.
    if (closest.distance > kZero && closest.distance < 0.5 * cutoff) {
      cutoff = closest.distance;
      grid = CrystalGrid(positions, num_atoms, cell, cutoff);
    }
  }
  return closest;
}

}  // namespace dtnn
