// SPDX-License-Identifier: MIT
// How the atoms of crystals hang together, when all neighbors within a cutoff count as bonded.
#pragma once

#include <cstdint>

#include "contacts.h"

namespace dtnn {

struct Bonding {
  int64_t num_lone_atoms;  // atoms without any bond
  int64_t dimension;       // directions in which bonds connect the crystal endlessly; the least of its parts
  double bond_fraction;    // median over the atoms of the smallest distance over the sum of the radii; may be infinite
};

// Writes one entry for each crystal, which has at least one atom. Cost is linear in the atoms, memory too.
void describe_bonding(const PeriodicCrystals& crystals, double cutoff, Bonding* results);

// Median as NumPy computes it: the mean of the two middle values where their number is even, NaN without values.
// Reorders the values.
double median(double* values, int64_t count);

}  // namespace dtnn
