// SPDX-License-Identifier: MIT
// Which atoms are whose: the segments of `ptr`, followed only as far as they are right.
#pragma once

#include "bad_index.h"
#include "gpu.h"

namespace dtnn::cuda {

enum PtrCheck : unsigned { kPtrCoverage, kPtrAscending, kPtrEmpty, kPtrChecks };

// The first entries of the table of texts of every operation with `ptr`.
#define DTNN_PTR_TEXTS                                                                                      \
  "expected `ptr` from 0 to the number of atoms, %N, got %V at ptr[%P]",                                    \
      "expected `ptr` in ascending order, got %V at ptr[%P] after a larger number or beyond all atoms, %N", \
      "expected `ptr` with at least one atom in every crystal, got none in crystal %P"

struct Crystals {
  const int64_t* ptr;  // [num_crystals + 1]; null: all atoms are one crystal's
  int64_t num_crystals;
  int64_t num_atoms;

  __device__ __forceinline__ int64_t begin(int64_t crystal) const {
    return ptr == nullptr ? crystal * num_atoms : ptr[crystal];
  }

  // The last crystal of [low, high) that begins at or before `atom`; `low` when none does.
  __device__ __forceinline__ int64_t find(int64_t atom, int64_t low, int64_t high) const {
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      if (begin(middle) <= atom) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }

  // Whether a crystal owns an atom; none does where its segment is wrong.
  __device__ __forceinline__ bool owns(int64_t crystal, int64_t atom) const {
    const int64_t first = begin(crystal), last = begin(crystal + 1);
    return first >= 0 && first <= atom && atom < last && last <= num_atoms;
  }

  // Whether the segment of a crystal is right. All crystals together check all of ptr.
  __device__ __forceinline__ bool check(int64_t crystal, BadIndex& bad) const {
    const int64_t first = begin(crystal), last = begin(crystal + 1);
    bool good = true;
    if (crystal == 0 && first != 0) {
      bad.see(kPtrCoverage, 0, first);
      good = false;
    }
    if (crystal + 1 == num_crystals && last != num_atoms) {
      bad.see(kPtrCoverage, num_crystals, last);
      good = false;
    }
    if (first < 0) {
      bad.see(kPtrAscending, crystal, first);
      good = false;
    }
    if (last < first || last > num_atoms) {
      bad.see(kPtrAscending, crystal + 1, last);
      good = false;
    }
    return good;
  }
};

}  // namespace dtnn::cuda
