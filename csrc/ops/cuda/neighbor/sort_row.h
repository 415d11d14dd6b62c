// SPDX-License-Identifier: MIT
// Sorting the bonds of one atom by a warp, any number of them.
#pragma once

#include "../neighbor_list.h"
#include "warp.h"

namespace dtnn::cuda {

// A bond of a known center, in the order of the list: by neighbor (in its crystal), then shift.
struct alignas(16) RowBond {
  int32_t neighbor;
  int32_t shift[3];
};

__device__ __forceinline__ bool comes_before(const RowBond& a, const RowBond& b) {
  if (a.neighbor != b.neighbor) return a.neighbor < b.neighbor;
  if (a.shift[0] != b.shift[0]) return a.shift[0] < b.shift[0];
  if (a.shift[1] != b.shift[1]) return a.shift[1] < b.shift[1];
  return a.shift[2] < b.shift[2];
}

// A row in shared memory.
struct SharedRow {
  RowBond* bonds;
  __device__ RowBond load(int64_t k) const { return bonds[k]; }
  __device__ void store(int64_t k, const RowBond& bond) const { bonds[k] = bond; }
};

// A row where it belongs, in the output.
struct OutputRow {
  const NeighborOutput& output;
  int64_t first_bond;
  int32_t first_atom;  // of the crystal
  int32_t center;

  __device__ RowBond load(int64_t k) const {
    const int32_t* const shift = output.shifts + 3 * (first_bond + k);
    return {static_cast<int32_t>(output.neighbors[first_bond + k]) - first_atom, {shift[0], shift[1], shift[2]}};
  }
  __device__ void store(int64_t k, const RowBond& bond) const {
    const int64_t place = first_bond + k;
    output.centers[place] = center;
    output.neighbors[place] = first_atom + bond.neighbor;
#pragma unroll
    for (int m = 0; m < 3; ++m) output.shifts[3 * place + m] = bond.shift[m];
  }
};

// Bitonic sort in place. All comparisons put the smaller bond in front, so the places beyond the end of a row whose
// length is not a power of 2 count as infinite and are never touched. The whole warp must call it; no two bonds are
// equal, so there is one result.
template <typename Row>
__device__ void sort_row(const Row& row, int64_t length) {
  int log_padded = 0;
  while ((int64_t{1} << log_padded) < length) ++log_padded;
  const int64_t num_comparisons = (int64_t{1} << log_padded) / 2;
  for (int log_block = 1; log_block <= log_padded; ++log_block) {
    // The first comparisons of a block mirror it, the others go over ever shorter distances.
    for (int log_half = log_block - 1; log_half >= 0; --log_half) {
      const int64_t half = int64_t{1} << log_half;
      const bool mirror = log_half == log_block - 1;
      for (int64_t comparison = lane_index(); comparison < num_comparisons; comparison += kWarp) {
        const int64_t place = comparison & (half - 1);
        const int64_t low = ((comparison - place) << 1) + place;
        const int64_t high = mirror ? ((comparison - place) << 1) + 2 * half - 1 - place : low + half;
        if (high >= length) continue;
        const RowBond a = row.load(low), b = row.load(high);
        if (comes_before(b, a)) {
          row.store(low, b);
          row.store(high, a);
        }
      }
      __syncwarp();
    }
  }
}

// Writes a row from the bonds that a warp finds, 32 candidates at a time.
class RowWriter {
 public:
  // `ordered`: the bonds come in the order of the list. `buffer`: shared memory of this warp for kBuffered bonds.
  __device__ RowWriter(const OutputRow& row, int64_t length, bool ordered, RowBond* buffer)
      : row_(row), length_(length), ordered_(ordered), buffered_(!ordered && length <= kBuffered), buffer_{buffer} {}

  template <typename Step>
  __device__ __forceinline__ void add(bool keep, int64_t neighbor, const Step (&shift)[3]) {
    const unsigned kept = __ballot_sync(kAllLanes, keep);
    if (keep) {
      const int64_t k = next_ + __popc(kept & lanes_below());
      const RowBond bond{
          static_cast<int32_t>(neighbor),
          {static_cast<int32_t>(shift[0]), static_cast<int32_t>(shift[1]), static_cast<int32_t>(shift[2])}};
      if (buffered_) {
        buffer_.store(k, bond);
      } else {
        row_.store(k, bond);
      }
    }
    next_ += __popc(kept);
  }

  __device__ void finish() {
    if (ordered_) return;
    __syncwarp();
    if (!buffered_) {
      sort_row(row_, length_);
      return;
    }
    sort_row(buffer_, length_);
    for (int64_t k = lane_index(); k < length_; k += kWarp) row_.store(k, buffer_.load(k));
    __syncwarp();  // before the next row overwrites the buffer
  }

  static constexpr int kBuffered = 256;

 private:
  OutputRow row_;
  int64_t length_;
  bool ordered_;
  bool buffered_;
  SharedRow buffer_;
  int64_t next_ = 0;
};

}  // namespace dtnn::cuda
