// SPDX-License-Identifier: MIT
#include "pair_histogram.h"

#include <algorithm>
#include <cmath>

#include "crystal_grid.h"

namespace dtnn {

void pair_histogram(const double* positions, const double cell[9], const int64_t* elements, int64_t num_atoms,
                    const HistogramBins& bins, double* histogram) {
  const CrystalGrid grid(positions, num_atoms, cell, bins.cutoff() * bins.unit);
  const double squared_cutoff = bins.cutoff() * bins.cutoff();
  for (int64_t i = 0; i < num_atoms; ++i) {
    grid.visit_neighbors<true>(i, [&](int64_t j, const Shift&, double squared) {
      const int64_t high = std::max(elements[i], elements[j]), low = std::min(elements[i], elements[j]);
      double* const row = histogram + (high * (high + 1) / 2 + low) * bins.num_bins;
      const double length = std::sqrt(squared) / bins.unit;
      // The bond of an atom to its own image is visited from both sides.
      const double weight = (i == j ? 0.5 : 1.0) * (1 - length * length / squared_cutoff);
      const double place = length / bins.step;
      const int64_t bin = std::min(static_cast<int64_t>(place), bins.num_bins - 2);
      const double upper = place - static_cast<double>(bin);
      row[bin] += weight * (1 - upper);
      row[bin + 1] += weight * upper;
      return true;
    });
  }
}

}  // namespace dtnn
