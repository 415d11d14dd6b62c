// SPDX-License-Identifier: MIT
#include "crystals.h"

#include <algorithm>
#include <vector>

#include "core/bonding.h"
#include "core/contacts.h"
#include "core/lattice.h"
#include "core/pair_histogram.h"
#include "core/sound_crystals.h"

namespace dtnn {

int64_t count_crystals(const Array<int64_t>& ptr, int64_t num_atoms) {
  ptr.expect_shape({kAny}, "[B+1]");
  const int64_t* const first = ptr.data();
  const int64_t* const end = first + ptr.shape(0);
  if (first == end || *first != 0 || end[-1] != num_atoms || !std::is_sorted(first, end))
    ptr.fail("that rises from 0 to the number of atoms, " + std::to_string(num_atoms), "another one");
  return ptr.shape(0) - 1;
}

namespace {

// A view of the arrays, whose shapes are checked.
PeriodicCrystals crystals_of(const Array<double>& positions, const Array<double>& cells, const Array<int64_t>& ptr) {
  positions.expect_shape({kAny, 3}, "[N, 3]");
  const int64_t num_crystals = count_crystals(ptr, positions.shape(0));
  cells.expect_shape({num_crystals, 3, 3}, "[B, 3, 3]");
  return {positions.data(), cells.data(), ptr.data(), nullptr, num_crystals};
}

PeriodicCrystals crystals_of(const Array<double>& positions, const Array<double>& cells, const Array<int64_t>& ptr,
                             const Array<double>& radii) {
  PeriodicCrystals crystals = crystals_of(positions, cells, ptr);
  radii.expect_shape({positions.shape(0)}, "[N]");
  crystals.radii = radii.data();
  return crystals;
}

Reference compact_cells(const Array<double>& cells) {
  cells.expect_shape({kAny, 3, 3}, "[B, 3, 3]");
  NewArray<double> compact({cells.shape(0), 3, 3});
  for (int64_t b = 0; b < cells.shape(0); ++b) {
    const std::array<Vec3, 3> rows = compact_cell(cells.data() + 9 * b);
    for (int k = 0; k < 3; ++k) std::copy(rows[k].begin(), rows[k].end(), compact.data() + 9 * b + 3 * k);
  }
  return compact.release();
}

Reference wrap_crystals(const Array<double>& positions, const Array<double>& cells, const Array<int64_t>& ptr,
                        const Array<bool>& chosen) {
  const PeriodicCrystals crystals = crystals_of(positions, cells, ptr);
  chosen.expect_shape({crystals.num_crystals}, "[B]");
  NewArray<double> wrapped({positions.shape(0), 3});
  for (int64_t b = 0; b < crystals.num_crystals; ++b) {
    const int64_t start = ptr.data()[b], end = ptr.data()[b + 1];
    const double* const from = positions.data() + 3 * start;
    double* const to = wrapped.data() + 3 * start;
    if (chosen.data()[b])
      wrap_atoms(from, end - start, cells.data() + 9 * b, to);
    else
      std::copy(from, from + 3 * (end - start), to);
  }
  return wrapped.release();
}

Reference find_sound_crystals(const Array<double>& positions, const Array<double>& cells, const Array<bool>& pbc,
                              const Array<int64_t>& ptr, const Array<int64_t>& atomic_numbers,
                              const Array<bool>& is_known, const Array<double>& radii, double volume_per_atom,
                              double radius_fraction, double filling, double coordinate) {
  const PeriodicCrystals crystals = crystals_of(positions, cells, ptr);
  pbc.expect_shape({crystals.num_crystals, 3}, "[B, 3]");
  atomic_numbers.expect_shape({positions.shape(0)}, "[N]");
  is_known.expect_shape({kAny}, "[elements]");
  radii.expect_shape({is_known.shape(0)}, "[elements]");
  NewArray<bool> is_sound({crystals.num_crystals});
  const ElementTable elements{is_known.data(), radii.data(), is_known.shape(0)};
  const SoundLimits limits{volume_per_atom, radius_fraction, filling, coordinate};
  {
    const ReleasedGil released;
    find_sound(crystals, pbc.data(), atomic_numbers.data(), elements, limits, is_sound.data());
  }
  return is_sound.release();
}

Reference nearest_contacts_arrays(const Array<double>& positions, const Array<double>& cells, const Array<int64_t>& ptr,
                                  const Array<double>& radii, const Array<double>& cutoffs) {
  const PeriodicCrystals crystals = crystals_of(positions, cells, ptr, radii);
  cutoffs.expect_shape({crystals.num_crystals}, "[B]");
  NewArray<double> fractions({positions.shape(0)});
  NewArray<int64_t> neighbors({positions.shape(0)});
  {
    const ReleasedGil released;
    nearest_contacts(crystals, cutoffs.data(), fractions.data(), neighbors.data());
  }
  return make_tuple(std::move(fractions), std::move(neighbors));
}

Reference closest_pair_of(const Array<double>& positions, const Array<double>& cell, double max_distance) {
  positions.expect_shape({kAny, 3}, "[N, 3]");
  cell.expect_shape({3, 3}, "[3, 3]");
  AtomPair pair;
  {
    const ReleasedGil released;
    pair = closest_pair(positions.data(), positions.shape(0), cell.data(), max_distance);
  }
  if (pair.first < 0) return none();
  return make_tuple(pair.first, pair.second, pair.distance);
}

Reference describe_bonding_arrays(const Array<double>& positions, const Array<double>& cells, const Array<int64_t>& ptr,
                                  const Array<double>& radii, double cutoff) {
  const PeriodicCrystals crystals = crystals_of(positions, cells, ptr, radii);
  std::vector<Bonding> results(crystals.num_crystals);
  {
    const ReleasedGil released;
    describe_bonding(crystals, cutoff, results.data());
  }
  NewArray<int64_t> lone({crystals.num_crystals}), dimensions({crystals.num_crystals});
  NewArray<double> fractions({crystals.num_crystals});
  for (int64_t b = 0; b < crystals.num_crystals; ++b) {
    lone.data()[b] = results[b].num_lone_atoms;
    dimensions.data()[b] = results[b].dimension;
    fractions.data()[b] = results[b].bond_fraction;
  }
  return make_tuple(std::move(lone), std::move(dimensions), std::move(fractions));
}

constexpr int64_t kMostElements = 1000;  // the number of their pairs does not overflow

Reference pair_histogram_of(const Array<double>& positions, const Array<double>& cell, const Array<int64_t>& elements,
                            int64_t num_elements, double unit, double step, int64_t num_bins) {
  positions.expect_shape({kAny, 3}, "[N, 3]");
  cell.expect_shape({3, 3}, "[3, 3]");
  const int64_t num_atoms = positions.shape(0);
  elements.expect_shape({num_atoms}, "[N]");
  if (num_elements < 0 || num_elements > kMostElements)
    throw std::invalid_argument("pair_histogram: expected `num_elements` from 0 to " + std::to_string(kMostElements) +
                                ", got " + std::to_string(num_elements));
  for (int64_t i = 0; i < num_atoms; ++i)
    if (elements.data()[i] < 0 || elements.data()[i] >= num_elements)
      elements.fail("from 0 below " + std::to_string(num_elements), std::to_string(elements.data()[i]));
  if (num_bins < 2)
    throw std::invalid_argument("pair_histogram: expected `num_bins` of 2 or more, got " + std::to_string(num_bins));
  const int64_t num_rows = num_elements * (num_elements + 1) / 2;
  NewArray<double> histogram({num_rows, num_bins});
  {
    const ReleasedGil released;
    std::fill(histogram.data(), histogram.data() + num_rows * num_bins, 0.0);
    pair_histogram(positions.data(), cell.data(), elements.data(), num_atoms, {unit, step, num_bins}, histogram.data());
  }
  return histogram.release();
}

}  // namespace

std::vector<PyMethodDef> crystal_functions() {
  return {
      define<&compact_cells>("compact_cells", {"cells"}, "Returns compact cells [B, 3, 3]."),
      define<&wrap_crystals>("wrap_crystals", {"positions", "cells", "ptr", "chosen"},
                             "Returns positions [N, 3], those of chosen crystals [B] moved into their cells."),
      define<&find_sound_crystals>("find_sound_crystals",
                                   {"positions", "cells", "pbc", "ptr", "atomic_numbers", "is_known", "radii",
                                    "volume_per_atom", "radius_fraction", "filling", "coordinate"},
                                   "Returns whether each crystal needs no second look, [B]; see sound_crystals.h."),
      define<&nearest_contacts_arrays>("nearest_contacts", {"positions", "cells", "ptr", "radii", "cutoffs"},
                                       "Returns fractions [N] and neighbors [N]; see contacts.h."),
      define<&closest_pair_of>("closest_pair", {"positions", "cell", "max_distance"},
                               "Returns two atoms and their distance, or None."),
      define<&pair_histogram_of>("pair_histogram",
                                 {"positions", "cell", "elements", "num_elements", "unit", "step", "num_bins"},
                                 "Returns a histogram of distances [pairs of elements, bins]; see pair_histogram.h."),
      define<&describe_bonding_arrays>(
          "describe_bonding", {"positions", "cells", "ptr", "radii", "cutoff"},
          "Returns num_lone_atoms [B], dimension [B] and bond_fraction [B]; see bonding.h."),
  };
}

}  // namespace dtnn
