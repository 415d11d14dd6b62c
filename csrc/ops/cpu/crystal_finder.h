// SPDX-License-Identifier: MIT
// Finds the crystal of a bond and checks its ends on the way.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ops/bond_vectors.h"

namespace dtnn {

enum class BondFault { kNone, kOutOfRange, kTwoCrystals };

// Finds the crystal of a bond; bonds of one crystal usually stand together, so the last answer is tried first.
class CrystalFinder {
 public:
  CrystalFinder(const int64_t* ptr, int64_t num_crystals, int64_t num_atoms)
      : ptr_(ptr), num_crystals_(num_crystals), num_atoms_(num_atoms) {}

  BondFault find(int64_t i, int64_t j) {
    if (i < first_ || i >= last_) {
      if (i < 0 || i >= num_atoms_) return BondFault::kOutOfRange;
      crystal_ = std::upper_bound(ptr_, ptr_ + num_crystals_ + 1, i) - ptr_ - 1;
      first_ = ptr_[crystal_];
      last_ = ptr_[crystal_ + 1];
    }
    if (j >= first_ && j < last_) return BondFault::kNone;
    return j < 0 || j >= num_atoms_ ? BondFault::kOutOfRange : BondFault::kTwoCrystals;
  }

  int64_t crystal() const { return crystal_; }

 private:
  const int64_t* ptr_;
  int64_t num_crystals_;
  int64_t num_atoms_;
  int64_t crystal_ = 0;
  int64_t first_ = 0;  // the atoms of the crystal; none before the first search
  int64_t last_ = 0;
};

inline void raise(const char* op, BondFault fault, int64_t num_atoms) {
  DTNN_CHECK(fault != BondFault::kOutOfRange, op, ": expected `pairs` with atoms in [0, ", num_atoms,
             "), got an index outside");
  DTNN_CHECK(fault != BondFault::kTwoCrystals, op,
             ": expected `pairs` with both ends in one crystal of `ptr`, got a bond between two");
}

// ptr, or [0, N] for one crystal; its values checked.
inline std::vector<int64_t> crystal_ptr(const char* op, const CrystalBonds& bonds) {
  if (!bonds.ptr.has_value()) return {0, bonds.num_atoms};
  const int64_t* ptr = bonds.ptr->const_data_ptr<int64_t>();
  check_ptr_values(op, ptr, bonds.num_cells, bonds.num_atoms);
  return {ptr, ptr + bonds.num_cells + 1};
}

}  // namespace dtnn
