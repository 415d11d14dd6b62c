// SPDX-License-Identifier: MIT
// Distribution of the distances between the atoms of a crystal, without a list of them.
#pragma once

#include <cstdint>

namespace dtnn {

// Bins at the lengths 0, step, 2 step, ..., in units of `unit`; the last one is at the cutoff.
struct HistogramBins {
  double unit;  // Angstrom
  double step;
  int64_t num_bins;
  double cutoff() const { return step * static_cast<double>(num_bins - 1); }
};

// Adds each pair of atoms closer than the cutoff (images included, each pair once) to the row of its two elements in
// `histogram` [num_elements (num_elements + 1) / 2, num_bins], which starts at zero: with the weight 1 - (length /
// cutoff)^2, shared between the two bins around its length. Elements are numbered from 0; the row of the elements p >=
// q is p (p + 1) / 2 + q. Numbers are finite and lattice vectors independent. Memory is linear in the atoms.
void pair_histogram(const double* positions, const double cell[9], const int64_t* elements, int64_t num_atoms,
                    const HistogramBins& bins, double* histogram);

}  // namespace dtnn
