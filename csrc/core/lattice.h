// SPDX-License-Identifier: MIT
// The periodic part of a cell: checked, reduced, and enumerable.
//
// The GPU has its own reduction, ops/cuda/neighbor/device_lattice.h, with the same tests, tolerances and result up to
// the choice among equally short vectors. This one puts the periodic vectors first, indexes them at run time and
// throws. On a GPU such indexing would move the arrays from registers to memory; rotating vectors, as the GPU does,
// would try them in another order here and change the bits of the basis. python_tests/cuda/test_device_lattice_cuda.py
// holds the two to each other.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace dtnn {

using Vec3 = std::array<double, 3>;
using Shift = std::array<int32_t, 3>;

inline double dot(const Vec3& a, const Vec3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// Only the cell vectors of periodic directions count: they span the lattice of translations. `basis` holds a short
// basis of the same lattice (given cells may be arbitrarily skewed), completed to three dimensions by unit vectors
// orthogonal to it.
struct Lattice {
  std::array<Vec3, 3> cell;                             // as given
  int num_periodic = 0;                                 // this many basis vectors, the first ones, are translations
  std::array<Vec3, 3> basis;                            // short vectors, then the orthogonal completion
  std::array<std::array<int64_t, 3>, 3> combination{};  // basis[k] = sum_m combination[k][m] cell[m], k < num_periodic
  bool keeps_cell = true;                               // the basis is the cell's own vectors, in order
  std::array<Vec3, 3> dual;                             // coordinate k of r in the basis is dual[k] . r
  Vec3 height;                                          // distance between the planes of integer coordinate k
  double volume = 1;                                    // length, area or volume of the periodic part
  Vec3 rounding_length;  // sum_m |combination[k][m]| |cell[m]|: bounds the rounding error of one step along basis[k]

  // The integers `steps` along the short basis as shifts along the cell vectors given.
  std::array<int64_t, 3> to_shift(const std::array<int64_t, 3>& steps) const {
    std::array<int64_t, 3> shift{};
    for (int k = 0; k < num_periodic; ++k)
      for (int m = 0; m < 3; ++m) shift[m] += steps[k] * combination[k][m];
    return shift;
  }
};

// Throws std::invalid_argument, worded to follow the name of the crystal, when the periodic vectors have no volume.
Lattice make_lattice(const double cell[9], const bool pbc[3]);

// The most compact cell of the same lattice (Minkowski reduced), shortest vector first; rows are lattice vectors.
// Unlike the basis of `make_lattice`, every vector is as short as it can be up to rounding, and a cell without volume
// is no error: its shortest vector is about 0. All components are finite.
std::array<Vec3, 3> compact_cell(const double cell[9]);

// Moves atoms [num_atoms, 3] of a fully periodic crystal into its cell, whose vectors are independent: a - floor(f)
// cell, with the fractional positions f, up to 1e-9 below 0. `wrapped` may be `positions`.
void wrap_atoms(const double* positions, int64_t num_atoms, const double cell[9], double* wrapped);

// Approximate number of translations no longer than `radius`.
double count_translations(const Lattice& lattice, double radius);

// All shifts with |shift @ cell| <= radius and perhaps a few more, in lexicographic order. With every shift comes its
// negative, so entry k and entry n-1-k are opposite and the middle one is 0.
std::vector<Shift> translations_within(const Lattice& lattice, double radius);

}  // namespace dtnn
