// SPDX-License-Identifier: MIT
#include "row_starts.h"

#include "cases.h"

extern "C" const char* row_starts(const int64_t* keys, int64_t num_keys, int64_t* row_ptr, int64_t num_rows) {
  return dtnn::cuda::launch_row_starts(keys, num_keys, row_ptr, num_rows, nullptr);
}

DTNN_CASE(row_starts) {
  const std::vector<int64_t> lists[] = {{}, {0, 0, 4}, {2, 2, 2, 9, 9}, {-5, -1, 3, 10, 700}, {700, 800}, {-9, -8}};
  for (const std::vector<int64_t>& keys : lists) {
    std::vector<int64_t> row_ptr(11, -1);
    const char* const error = row_starts(keys.data(), static_cast<int64_t>(keys.size()), row_ptr.data(), 10);
    if (error != nullptr) return error;
    for (int64_t row = 0; row <= 10; ++row) {
      const auto below = std::count_if(keys.begin(), keys.end(), [row](int64_t key) { return key < row; });
      if (row_ptr[row] != below) return "wrong start of row " + std::to_string(row);
    }
  }
  return "";
}
