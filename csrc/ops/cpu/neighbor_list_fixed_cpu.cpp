// SPDX-License-Identifier: MIT
#include <algorithm>

#include "ops/cpu/neighbor_search.h"
#include "ops/neighbor_list_fixed.h"

namespace dtnn {

FixedNeighborListTensors neighbor_list_fixed_cpu(const NeighborListArguments& arguments, int64_t capacity) {
  const int64_t num_atoms = arguments.num_atoms();
  FixedNeighborListTensors list = empty_fixed_list(arguments, capacity);
  auto& [pairs, shifts, row_ptr, num_bonds, status] = list;
  int64_t* const centers = pairs.mutable_data_ptr<int64_t>();
  int64_t* const rows = row_ptr.mutable_data_ptr<int64_t>();
  int32_t* const shift = shifts.mutable_data_ptr<int32_t>();
  int64_t* const needed = num_bonds.mutable_data_ptr<int64_t>();
  // The number of bonds that were written, or -1.
  const auto write = [&](const NeighborSearch& search, const Parallel& parallel) -> int64_t {
    *needed = search.num_bonds();
    if (search.num_bonds() > capacity) return -1;
    search.write_bonds({centers, centers + capacity, shift, rows}, parallel);
    return search.num_bonds();
  };
  const int64_t written = with_neighbor_search("neighbor_list_fixed", arguments, write);
  *status.mutable_data_ptr<int64_t>() = written < 0;
  if (written < 0) std::fill_n(rows, num_atoms, 0);
  const int64_t first = std::max<int64_t>(written, 0);
  std::fill(centers + first, centers + capacity, num_atoms - 1);
  std::fill(centers + capacity + first, centers + 2 * capacity, num_atoms - 1);
  std::fill(shift + 3 * first, shift + 3 * capacity, 0);
  rows[num_atoms] = capacity;
  return list;
}

}  // namespace dtnn
