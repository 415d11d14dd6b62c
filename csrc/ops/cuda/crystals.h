// SPDX-License-Identifier: MIT
// The atoms of each crystal: the segments of `ptr`, used only as far as they are valid.
#pragma once

#include "bad_index.h"
#include "gpu.h"

namespace dtnn::cuda {

enum PtrCheck : unsigned { kPtrCoverage, kPtrAscending, kPtrEmpty, kPtrChecks };

// The first entries of the table of texts of every operation with `ptr`.
#define DTNN_PTR_TEXTS                                                 \
  "expected `ptr` from 0 to the number of atoms, %N, got %V to %W",    \
      "expected `ptr` in ascending order, got %V after %W at ptr[%P]", \
      "expected `ptr` with at least one atom in every crystal, got none in crystal %P"

struct Crystals {
  const int64_t* ptr;  // [num_crystals + 1]; null: one crystal owns all atoms
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

  // Whether a crystal owns an atom; a crystal with a bad segment owns none.
  __device__ __forceinline__ bool owns(int64_t crystal, int64_t atom) const {
    const int64_t first = begin(crystal), last = begin(crystal + 1);
    return first >= 0 && first <= atom && atom < last && last <= num_atoms;
  }

  // Whether the segment of a crystal is valid. All crystals together check all of ptr.
  __device__ __forceinline__ bool check(int64_t crystal, BadIndex& bad) const {
    const int64_t first = begin(crystal), last = begin(crystal + 1);
    bool good = true;
    if ((crystal == 0 && first != 0) || (crystal + 1 == num_crystals && last != num_atoms)) {
      bad.see(kPtrCoverage, 0, begin(0), begin(num_crystals));
      good = false;
    }
    if (last < first) {
      bad.see(kPtrAscending, crystal + 1, last, first);
      good = false;
    }
    // Between valid ends, a number out of range is followed by one that falls, which reports it.
    if (first < 0 || last > num_atoms) good = false;
    return good;
  }
};

}  // namespace dtnn::cuda
