// SPDX-License-Identifier: MIT
#pragma once

#include "launchers.h"

namespace dtnn::cuda {

// row_ptr of sorted keys: row_ptr[n] = number of keys below n, for n = 0..num_rows. Keys outside of [0, num_rows) are
// left to the operation that reads the rows: row_ptr then does not begin at 0 or end at the number of keys.
const char* launch_row_starts(const int64_t* keys, int64_t num_keys, int64_t* row_ptr, int64_t num_rows, void* stream);

}  // namespace dtnn::cuda
