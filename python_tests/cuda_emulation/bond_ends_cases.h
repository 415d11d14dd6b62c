// SPDX-License-Identifier: MIT
// Shared by the cases of bond_to_atom_sum and atom_to_bond_gather: the call of a launcher with plain pointers.
#pragma once

#include "bond_ends_args.h"
#include "cases.h"

namespace dtnn::cases {

template <typename T>
using BondEndsLauncher = const char* (*)(const cuda::BondEndsArgs<T>&, void*);

// The index arrays of a list; those that an operation does not read may be null.
struct BondArrays {
  const int64_t* pairs;
  const int64_t* row_ptr;
  const int64_t* neighbor_order;
  const int64_t* neighbor_row_ptr;
  int64_t num_atoms;
  int64_t num_bonds;
};

inline BondArrays arrays_of(const Bonds& bonds) {
  return {bonds.pairs.data(), bonds.row_ptr.data(), bonds.neighbor_order.data(), bonds.neighbor_row_ptr.data(),
          bonds.num_atoms,    bonds.num_bonds};
}

template <typename T>
const char* run_bond_ends(const char* op, BondEndsLauncher<T> launcher, const T* values, const BondArrays& bonds,
                          T* out, int64_t width, int64_t center, int64_t neighbor) {
  return launcher({values, bonds.pairs, out, bonds.num_atoms, bonds.num_bonds, width, static_cast<int>(center),
                   static_cast<int>(neighbor), errors(op), bonds.row_ptr, bonds.neighbor_order, bonds.neighbor_row_ptr},
                  nullptr);
}

// Values [num_rows, width] that start `shift` numbers into their memory, so that their address is not a multiple of 16
// for a shift of 1.
template <typename T>
class ShiftedValues {
 public:
  ShiftedValues(int64_t num_rows, int64_t width, int shift)
      : buffer_(integers<T>(num_rows * width + shift)), shift_(shift) {}
  const T* data() const { return buffer_.data() + shift_; }

 private:
  std::vector<T> buffer_;
  int shift_;
};

}  // namespace dtnn::cases
