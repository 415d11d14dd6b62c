// SPDX-License-Identifier: MIT
// One atom and one bond of each symmetry orbit of a crystal, with the rotations that carry the others.
//
// The group acts on directed bonds (i, j, S): an operation takes it to (g(i), g(j), W S + s_j - s_i), where s are the
// shifts of its atoms. Every orbit of undirected bonds has a directed bond that starts at a stored atom. The stabiliser
// of the stored atom c takes such a bond to the others of its orbit that start at c, so the sum of their rotations is
// their number times the mean rotation of the stabiliser, the projector of the atom: what a bond carries does not
// change under the operations that keep the bond. Directed bonds at c that are images of the reverse belong to another
// orbit of directed bonds, or to the same one, when the bond is an image of its own reverse.
#pragma once

#include <cstdint>
#include <vector>

namespace dtnn {

struct BondOrbitArguments {
  int64_t num_atoms;
  const double* positions;   // [N, 3], symmetric, Angstrom
  const double* cell;        // [3, 3], symmetric
  int64_t num_operations;    // G, at least 1: a group
  const int32_t* rotations;  // [G, 3, 3]
  const int32_t* atoms;      // [G, N], the atom that each atom goes to
  const int32_t* shifts;     // [G, N, 3], the lattice translation that it is then moved by
  // The list at the longest cutoff: the bonds of atom i are row_ptr[i]..row_ptr[i+1], counted from `pairs`.
  const int64_t* row_ptr;    // [N+1]
  const int64_t* neighbors;  // numbered like the atoms of all crystals: first_atom is the first of this one
  const int32_t* bond_shifts;
  int64_t first_atom;
  bool half;              // each bond once; otherwise from both ends
  const double* cutoffs;  // from short to long, Angstrom; the list holds all bonds shorter than the last
  int64_t num_cutoffs;
};

struct StoredBond {
  int32_t center, neighbor;  // stored atoms
  int32_t shift[3];          // of the neighbor in the whole crystal
  int32_t level;             // number of the shortest cutoff above the length
  int32_t num_at_center;     // directed bonds of the orbit that start at the center, images of the stored one
  int32_t num_at_neighbor;   // directed bonds of the orbit that start at `neighbor`, images of the reverse; 0 where
                             // the bond is an image of its own reverse
  double vector[3];          // from the center to the neighbor, Angstrom
  double rotation[9];        // makes the neighbor of its stored atom
};

struct BondOrbits {
  std::vector<int64_t> stored;      // the atom of each orbit with the lowest number, rising
  std::vector<int64_t> weight;      // number of atoms of the orbit
  std::vector<double> site_vector;  // [stored, 3, 3], mean rotation of the atom's stabiliser
  std::vector<double> site_rank2;   // [stored, 6, 6], the same for six components
  double projector[36];             // mean of the 6x6 rotations of all operations
  std::vector<StoredBond> bonds;    // sorted by center, then by their first place in the list
};

// Throws std::invalid_argument, worded to follow the name of the crystal, where an image of a bond is not in the list.
// Orbits at the cutoff itself, where rounding decides about each bond, are left out: their envelope is zero.
BondOrbits find_bond_orbits(const BondOrbitArguments& arguments);

}  // namespace dtnn
