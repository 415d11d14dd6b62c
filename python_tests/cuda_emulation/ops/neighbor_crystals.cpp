// SPDX-License-Identifier: MIT
#include <limits>

#include "neighbor_cases.h"

// Faults in the values: found, attributed to the first crystal that has one, and no kernel after that runs wild.
DTNN_CASE(neighbor_crystals) {
  using dtnn::cuda::NeighborFault;
  const auto fault = [](dtnn::cases::BoxBatch& batch, bool with_large, int64_t crystal) {
    const dtnn::cuda::NeighborListArgs args = batch.args(2.0, false);
    dtnn::cases::EmulatedNeighborList list(args, with_large);
    std::vector<int64_t> row_ptr(args.num_atoms + 1), none;
    const dtnn::cuda::NeighborOutput output{nullptr, nullptr, nullptr, row_ptr.data(), 0};
    int64_t num_bonds = -1, status = -1;
    if (list.count(row_ptr.data()) != nullptr || list.fill(output) != nullptr ||
        list.pad(output, &num_bonds, &status) != nullptr || num_bonds != 0 || status != dtnn::cuda::kBadValues) {
      return NeighborFault::kNone;
    }
    const int64_t word = list.status()[dtnn::cuda::kFaultWord];
    return dtnn::cuda::crystal_of_fault(word) == crystal ? list.fault() : NeighborFault::kNone;
  };
  const std::vector<int> sizes{2, 600, 0, 3};
  for (const bool with_large : {false, true}) {
    const auto fresh = [&] { return dtnn::cases::BoxBatch(sizes, {20, 20, 20}, 2); };
    dtnn::cases::BoxBatch batch = fresh();
    if (!with_large && fault(batch, false, 1) != NeighborFault::kNeedsGrid) return "a large crystal was not reported";
    for (const int64_t bad : {-5, 700}) {
      batch = fresh();
      batch.ptr[1] = bad;
      if (fault(batch, with_large, 0) != NeighborFault::kPtr) return "a bad ptr was not reported";
    }
    batch = fresh();
    batch.cells[4] = std::numeric_limits<double>::infinity();
    if (fault(batch, with_large, 0) != NeighborFault::kCrystal) return "an infinite cell was not reported";
    batch = fresh();
    batch.cells[9] = 0;
    batch.positions[1] = std::numeric_limits<double>::quiet_NaN();
    if (fault(batch, with_large, 0) != NeighborFault::kCrystal) return "a NaN position was not reported";
  }
  dtnn::cases::BoxBatch batch(sizes, {20, 20, 20}, 2);
  batch.positions[3 * 300] = std::numeric_limits<double>::quiet_NaN();
  if (fault(batch, true, 1) != NeighborFault::kCrystal) return "a NaN position in a large crystal was not reported";
  return "";
}
