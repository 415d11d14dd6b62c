// SPDX-License-Identifier: MIT
// The bonds of an atom at one of their ends: which, and whether the index arrays agree about it.
#pragma once

#include "bad_index.h"
#include "gpu.h"

namespace dtnn::cuda {

// Numbers of the checks of one end; the neighbor's come after the center's. The texts are the CPU's
// (csrc/ops/cpu/bond_to_atom_sum_cpu.cpp) followed by the bad value.
enum EndCheck : unsigned { kCoverage, kSegment, kOrder, kAtom, kEndChecks };

#define DTNN_INCONSISTENT_BONDS                                                                          \
  "expected `pairs` sorted by center as `row_ptr` says (and by neighbor as `neighbor_order` says), got " \
  "a bond in another atom's segment, a bond twice or an index out of range: "

inline const char* const kEndTexts[2 * kEndChecks] = {
    "expected `row_ptr` from 0 to the number of bonds, %E, got %V to %W",
    DTNN_INCONSISTENT_BONDS "%V at row_ptr[%P]",
    DTNN_INCONSISTENT_BONDS "bond %P after bond %V",
    DTNN_INCONSISTENT_BONDS "%V at pairs[0, %P]",
    "expected `neighbor_row_ptr` from 0 to the number of bonds, %E, got %V to %W: are all neighbors "
    "in `pairs` in [0, %N)?",
    DTNN_INCONSISTENT_BONDS "%V at neighbor_row_ptr[%P]",
    DTNN_INCONSISTENT_BONDS "%V at neighbor_order[%P]",
    DTNN_INCONSISTENT_BONDS "%V at pairs[1, %P]",
};

#undef DTNN_INCONSISTENT_BONDS

// One end of all bonds. The bonds of an atom have ranks row_ptr[atom]..row_ptr[atom + 1].
struct BondEnd {
  const int64_t* atoms;    // [num_bonds], the atom at this end of each bond
  const int64_t* order;    // [num_bonds], the bond of each rank; null: bond and rank are the same
  const int64_t* row_ptr;  // [num_atoms + 1]
  int64_t num_atoms;
  int64_t num_bonds;
  unsigned first_check;
};

// The ranks of an atom's bonds. Where row_ptr is bad there are none, and `good` is false.
struct BondRanks {
  int64_t begin, end;
  bool good;

  __device__ __forceinline__ BondRanks(const BondEnd& bonds, int64_t atom, BadIndex& bad)
      : begin(bonds.row_ptr[atom]), end(bonds.row_ptr[atom + 1]), good(true) {
    if ((atom == 0 && begin != 0) || (atom + 1 == bonds.num_atoms && end != bonds.num_bonds)) {
      bad.see(bonds.first_check + kCoverage, 0, bonds.row_ptr[0], bonds.row_ptr[bonds.num_atoms]);
      good = false;
    }
    if (begin < 0 || begin > bonds.num_bonds) {
      bad.see(bonds.first_check + kSegment, atom, begin);
      good = false;
    } else if (end < begin || end > bonds.num_bonds) {
      bad.see(bonds.first_check + kSegment, atom + 1, end);
      good = false;
    }
    if (!good) begin = end = 0;
  }
};

// Adds the bonds of an atom at one of its ends in order: add(load(bond)). The loads of `in_flight` bonds do not wait
// for each other. False where an index is bad.
template <int in_flight, typename Load, typename Add>
__device__ __forceinline__ bool for_each_bond(const BondEnd& end, int64_t atom, BadIndex& bad, const Load& load,
                                              const Add& add) {
  const BondRanks ranks(end, atom, bad);
  bool good = ranks.good;
  int64_t previous = -1;  // bonds ascend within a segment, so none is counted twice and another one left out
  for (int64_t begin = ranks.begin; begin < ranks.end; begin += in_flight) {
    int64_t stored[in_flight], found[in_flight];
    decltype(load(int64_t{})) values[in_flight];
#pragma unroll
    for (int k = 0; k < in_flight; ++k) {
      // Beyond the end the last bond is loaded again, which costs nothing: its line is there.
      const int64_t rank = begin + k < ranks.end ? begin + k : ranks.end - 1;
      stored[k] = end.order == nullptr ? rank : end.order[rank];
      const bool in_range = static_cast<uint64_t>(stored[k]) < static_cast<uint64_t>(end.num_bonds);
      const int64_t bond = in_range ? stored[k] : rank;
      found[k] = end.atoms[bond];
      values[k] = load(bond);
    }
#pragma unroll
    for (int k = 0; k < in_flight; ++k) {
      if (begin + k >= ranks.end) break;
      if (stored[k] <= previous || stored[k] >= end.num_bonds) {
        bad.see(end.first_check + kOrder, begin + k, stored[k]);
        good = false;
      } else if (found[k] != atom) {
        bad.see(end.first_check + kAtom, stored[k], found[k]);
        good = false;
      }
      previous = stored[k];
      add(values[k]);
    }
  }
  return good;
}

}  // namespace dtnn::cuda
