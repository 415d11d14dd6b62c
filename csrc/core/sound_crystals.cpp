// SPDX-License-Identifier: MIT
#include "sound_crystals.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "crystal_grid.h"

namespace dtnn {
namespace {

constexpr double kPi = 3.14159265358979323846;
// Relative; above the rounding errors of this file and of NumPy, which decides about crystals near a limit.
constexpr double kMargin = 1e-9;

bool all_within(const double* values, int64_t count, double limit) {
  // Adding up instead of leaving the loop lets it run in vector registers. NaN compares false.
  int64_t within = 0;
  for (int64_t k = 0; k < count; ++k) within += std::abs(values[k]) <= limit;
  return within == count;
}

double volume_of(const double* c) {
  return std::abs(c[0] * (c[4] * c[8] - c[5] * c[7]) - c[1] * (c[3] * c[8] - c[5] * c[6]) +
                  c[2] * (c[3] * c[7] - c[4] * c[6]));
}

}  // namespace

void find_sound(const PeriodicCrystals& crystals, const bool* pbc, const int64_t* atomic_numbers,
                const ElementTable& elements, const SoundLimits& limits, bool* is_sound) {
  std::vector<double> radii;
  const auto check = [&](int64_t b) {
    const int64_t start = crystals.ptr[b], num_atoms = crystals.ptr[b + 1] - start;
    const double *const cell = crystals.cells + 9 * b, *const positions = crystals.positions + 3 * start;
    if (num_atoms == 0 || !(pbc[3 * b] && pbc[3 * b + 1] && pbc[3 * b + 2])) return false;
    if (!all_within(cell, 9, limits.coordinate) || !all_within(positions, 3 * num_atoms, limits.coordinate))
      return false;
    const double volume = volume_of(cell);
    if (!(volume > limits.volume_per_atom * static_cast<double>(num_atoms) * (1 + kMargin))) return false;

    radii.resize(num_atoms);
    double largest = 0, smallest = INFINITY, cubes = 0;
    for (int64_t i = 0; i < num_atoms; ++i) {
      const int64_t z = atomic_numbers[start + i];
      if (z < 0 || z >= elements.num_elements || !elements.is_known[z]) return false;
      radii[i] = elements.radii[z];
      largest = std::max(largest, radii[i]);
      smallest = std::min(smallest, radii[i]);
      cubes += radii[i] * radii[i] * radii[i];
    }
    if (!(4.0 / 3.0 * kPi * cubes < limits.filling * volume * (1 - kMargin))) return false;

    const double closest = limits.radius_fraction * (1 + kMargin);
    // Also bounds the number of images in the search that follows.
    const Vec3 shortest = compact_cell(cell)[0];
    if (!(std::sqrt(dot(shortest, shortest)) > 2 * smallest * closest)) return false;
    const CrystalGrid grid(positions, num_atoms, cell, 2 * largest * closest);
    for (int64_t i = 0; i < num_atoms; ++i) {
      const bool is_free = grid.visit_neighbors(i, [&](int64_t j, const Shift&, double squared) {
        const double limit = closest * (radii[i] + radii[j]);
        return squared > limit * limit;
      });
      if (!is_free) return false;
    }
    return true;
  };
  for (int64_t b = 0; b < crystals.num_crystals; ++b) is_sound[b] = check(b);
}

}  // namespace dtnn
