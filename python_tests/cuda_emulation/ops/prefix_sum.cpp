// SPDX-License-Identifier: MIT
#include "cases.h"
#include "neighbor_list.h"

extern "C" const char* prefix_sum(int64_t* counts, int64_t n, int64_t* total) {
  std::vector<int64_t> tile_sums(dtnn::cuda::num_prefix_tiles(n));
  return dtnn::cuda::launch_counts_to_ptr(counts, n, tile_sums.data(), total, nullptr);
}

DTNN_CASE(prefix_sum) {
  for (const int64_t n : {0, 1, 31, 4096, 4097, 12288, 20000}) {
    std::vector<int64_t> counts(n + 1), expected(n + 1, 0);
    for (int64_t k = 1; k <= n; ++k) {
      counts[k] = k * 7 % 23;
      expected[k] = expected[k - 1] + counts[k];
    }
    counts[0] = 99;
    int64_t total = -1;
    if (const char* error = prefix_sum(counts.data(), n, &total)) return error;
    if (counts != expected || total != expected[n]) return "wrong sums for " + std::to_string(n);
  }
  return "";
}
