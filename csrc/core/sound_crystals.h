// SPDX-License-Identifier: MIT
// Tells the many crystals that need no second look from the few that do.
#pragma once

#include <cstdint>

#include "contacts.h"

namespace dtnn {

// The limits of dtnn_fast/crystals/checks.py, which explains them.
struct SoundLimits {
  double volume_per_atom;  // smallest, Angstrom^3
  double radius_fraction;  // smallest distance of two atoms over the sum of their radii
  double filling;          // largest volume of the atoms' spheres over that of the cell
  double coordinate;       // largest component of a position or lattice vector, Angstrom
};

// Elements by atomic number, 0 to num_elements - 1.
struct ElementTable {
  const bool* is_known;
  const double* radii;  // Angstrom
  int64_t num_elements;
};

// `is_sound` [num_crystals] is true for crystals that are surely within all limits: there are atoms, all of known
// elements; all numbers are finite and not too large; the crystal is periodic in all directions and has the volume its
// atoms need; and no atom is too close to another one or to its own image. Arguments may hold any numbers, `radii` of
// the crystals is not read. A crystal on a limit counts as not sound. The search of a crystal ends at its first fault.
void find_sound(const PeriodicCrystals& crystals, const bool* pbc, const int64_t* atomic_numbers,
                const ElementTable& elements, const SoundLimits& limits, bool* is_sound);

}  // namespace dtnn
