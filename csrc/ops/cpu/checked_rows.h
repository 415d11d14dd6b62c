// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <atomic>

#include "check.h"

namespace dtnn {

// Calls fill(first, last) for ranges of the rows 0..num_rows, on torch's threads. Returns whether every call returned
// true: the kernels report bad indices so, because a throw may not cross the thread pool.
template <typename Fill>
bool fill_rows(int64_t num_rows, int64_t elements_per_row, const Fill& fill) {
  std::atomic<bool> all_good{true};
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, elements_per_row));
  torch::stable::parallel_for(0, num_rows, grain, [&](int64_t first, int64_t last) {
    if (!fill(first, last)) all_good = false;
  });
  return all_good;
}

}  // namespace dtnn
