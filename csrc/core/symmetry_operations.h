// SPDX-License-Identifier: MIT
// A crystal made exactly symmetric under given operations: where each atom goes, and mean positions and mean cell.
//
// An operation takes fractional positions f (columns) to W f + w. W is an integer matrix; w follows from the atom that
// the first atom goes to, which is exact integer data and small in files. Files hold atoms and cells that obey their
// symmetry up to rounding or worse; the means over all operations obey it to rounding in float64.
#pragma once

#include <cstdint>

namespace dtnn {

// Largest entry of a matrix W. Very skewed cells have large ones; with these, products of three fit into int64.
constexpr int32_t kLargestEntry = 10000;

// What is wrong with the operations of a crystal; `detail` of the result names the operation or the atom.
enum class SymmetryFault : int64_t {
  kNone = 0,
  kBadImage,      // the first atom goes to an atom that is not there (operation)
  kBadRotation,   // a matrix with a determinant other than 1 or -1, or entries above kLargestEntry (operation)
  kElements,      // the first atom goes to an atom of another element (operation)
  kNotMapped,     // an atom goes to a place without an atom of its element (operation)
  kNoGroup,       // products of operations are missing, or operations occur twice (operation)
  kDisplacement,  // an atom lies farther than the tolerance from its symmetric position (atom)
  kStrain,        // a lattice vector ends farther than the tolerance from its symmetric end (lattice vector)
  kNotFinite,     // positions or cell are not finite, or the cell has no volume (0)
};

struct SymmetryArguments {
  int64_t num_atoms;
  const double* positions;   // [N, 3], Angstrom
  const double* cell;        // [3, 3], rows are lattice vectors, Angstrom
  const int64_t* elements;   // [N]
  int64_t num_operations;    // G, at least 1
  const int32_t* rotations;  // [G, 3, 3], the matrices W
  const int64_t* images;     // [G], the atom that atom 0 goes to
  double tolerance;          // Angstrom
};

struct SymmetryResult {
  double* positions;        // [N, 3], symmetric, in the cell up to rounding
  double* cell;             // [3, 3], symmetric; the given cell with a pure stretch, so its frame does not rotate
  int32_t* atoms;           // [G, N], the atom that each atom goes to
  int32_t* shifts;          // [G, N, 3]: W f_a + w = f_b + shift for the symmetric positions
  double displacement = 0;  // largest distance of an atom from its symmetric position, Angstrom
  double strain = 0;        // largest distance between the ends of a lattice vector and its symmetric form, Angstrom
  SymmetryFault fault = SymmetryFault::kNone;
  int64_t detail = 0;
};

// A crystal with the identity alone keeps positions and cell to the bit; they need not be periodic then.
void symmetrise(const SymmetryArguments& arguments, SymmetryResult& result);

// Whether operations are a group modulo lattice vectors; otherwise `operation` is one that does not fit the others.
bool is_group(int64_t num_atoms, int64_t num_operations, const int32_t* rotations, const int32_t* atoms,
              int64_t& operation);

// Whether operations keep the cell of a symmetric crystal, and take its atoms where `atoms` and `shifts` say; otherwise
// `operation` is one that does not.
bool is_mapped(int64_t num_atoms, const double* positions, const double* cell, int64_t num_operations,
               const int32_t* rotations, const int32_t* atoms, const int32_t* shifts, int64_t& operation);

// Cartesian rotation of an operation in a cell that obeys it: orthogonal to rounding. R = L W L^-1, with the lattice
// vectors as the columns of L.
void cartesian_rotation(const double cell[9], const int32_t rotation[9], double result[9]);

// The matrix of t -> R t R^T on the components xx yy zz yz xz xy.
void rank2_rotation(const double rotation[9], double result[36]);

}  // namespace dtnn
