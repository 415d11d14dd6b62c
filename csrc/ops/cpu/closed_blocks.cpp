// SPDX-License-Identifier: MIT
#include "ops/cpu/closed_blocks.h"

#include <algorithm>

#include "check.h"

namespace dtnn {

std::vector<ClosedBlock> closed_blocks(const char* op, const int64_t* pairs, const int64_t* row_ptr, int64_t num_atoms,
                                       int64_t num_bonds, int64_t min_bonds) {
  const int64_t* neighbors = pairs + num_bonds;
  DTNN_CHECK(row_ptr[0] == 0 && row_ptr[num_atoms] == num_bonds, op,
             ": expected `row_ptr` from 0 to the number of bonds, ", num_bonds, ", got ", row_ptr[0], " to ",
             row_ptr[num_atoms]);
  // lowest[n]: the first atom that the bonds of the centers n, n + 1, ... reach, and at most n.
  std::vector<int64_t> lowest(num_atoms + 1, num_atoms);
  for (int64_t n = num_atoms - 1; n >= 0; --n) {
    DTNN_CHECK(0 <= row_ptr[n] && row_ptr[n] <= row_ptr[n + 1], op,
               ": expected `row_ptr` that does not decrease from 0, got ", row_ptr[n], " before ", row_ptr[n + 1]);
    lowest[n] = std::min(n, lowest[n + 1]);
    for (int64_t e = row_ptr[n]; e < row_ptr[n + 1]; ++e) {
      DTNN_CHECK(pairs[e] == n, op, ": expected `pairs` sorted by center as `row_ptr` says, got center ", pairs[e],
                 " in the segment of atom ", n);
      DTNN_CHECK(neighbors[e] >= 0 && neighbors[e] < num_atoms, op, ": expected neighbors in [0, ", num_atoms,
                 "), got ", neighbors[e]);
      lowest[n] = std::min(lowest[n], neighbors[e]);
    }
  }
  std::vector<ClosedBlock> blocks;
  int64_t first = 0, highest = -1;
  for (int64_t n = 0; n < num_atoms; ++n) {
    highest = std::max(highest, n);
    for (int64_t e = row_ptr[n]; e < row_ptr[n + 1]; ++e) highest = std::max(highest, neighbors[e]);
    const bool closed = highest == n && lowest[n + 1] > n;
    if (closed && (n + 1 == num_atoms || row_ptr[n + 1] - row_ptr[first] >= min_bonds)) {
      blocks.push_back({first, n + 1, row_ptr[first], row_ptr[n + 1]});
      first = n + 1;
    }
  }
  return blocks;
}

void check_neighbor_order(const char* op, const int64_t* neighbors, const int64_t* order, const int64_t* order_ptr,
                          int64_t num_atoms, int64_t num_bonds) {
  bool sorted = order_ptr[0] == 0 && order_ptr[num_atoms] == num_bonds;
  for (int64_t n = 0; sorted && n < num_atoms; ++n) {
    sorted = 0 <= order_ptr[n] && order_ptr[n] <= order_ptr[n + 1] && order_ptr[n + 1] <= num_bonds;
    int64_t previous = -1;  // ascending, so that no bond comes twice
    for (int64_t k = order_ptr[n]; sorted && k < order_ptr[n + 1]; ++k) {
      sorted = order[k] > previous && order[k] < num_bonds && neighbors[order[k]] == n;
      previous = order[k];
    }
  }
  DTNN_CHECK(sorted, op,
             ": expected `neighbor_order` and `neighbor_row_ptr` that sort the bonds by neighbor, got a "
             "bond of another neighbor, a bond twice or an index out of range");
}

}  // namespace dtnn
