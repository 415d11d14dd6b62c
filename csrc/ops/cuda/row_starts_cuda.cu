// SPDX-License-Identifier: MIT
#include "gpu.h"
#include "row_starts.h"

namespace dtnn::cuda {
namespace {

constexpr unsigned kThreads = 256;

// A thread per step from one key to the next: it starts the rows between them.
__global__ void __launch_bounds__(kThreads)
    fill_row_starts(const int64_t* keys, int64_t num_keys, int64_t* row_ptr, int64_t num_rows) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t k = int64_t{blockIdx.x} * kThreads + threadIdx.x; k <= num_keys; k += stride) {
    const int64_t before = k == 0 ? -1 : keys[k - 1];
    const int64_t here = k == num_keys ? num_rows : keys[k];
    const int64_t first = before < -1 ? 0 : before > num_rows ? num_rows + 1 : before + 1;
    const int64_t last = here < num_rows ? here : num_rows;
    for (int64_t row = first; row <= last; ++row) row_ptr[row] = k;
  }
}

}  // namespace

const char* launch_row_starts(const int64_t* keys, int64_t num_keys, int64_t* row_ptr, int64_t num_rows, void* stream) {
  const int64_t blocks = num_keys / kThreads + 1;
  DTNN_LAUNCH(fill_row_starts, grid_size(blocks), kThreads, 0, stream, keys, num_keys, row_ptr, num_rows);
  return launch_error();
}

}  // namespace dtnn::cuda
