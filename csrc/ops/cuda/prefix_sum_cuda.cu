// SPDX-License-Identifier: MIT
// Counts into row pointers: the sums of tiles, then each tile with the sum of those before it. Two launches and no
// waiting between blocks; one launch where a tile is enough.
#include "gpu.h"
#include "neighbor/warp.h"
#include "neighbor_list.h"

namespace dtnn::cuda {
namespace {

constexpr int kThreads = 1024;  // a tile is one block's work, and most batches of small crystals are one tile
constexpr int kWarps = kThreads / kWarp;
constexpr int kRounds = kPrefixTile / kThreads;  // each warp owns this many rows of 32 numbers, one after the other

// Unsigned: after a fault the counts are garbage, and its sum may wrap around.
using Count = unsigned long long;

// Sum over the block, in all threads; the whole block must call it.
__device__ Count block_sum(Count value) {
  DTNN_SHARED_ARRAY(Count, warp_sums, kWarps);
  value = warp_sum(value);
  __syncthreads();  // the last call's readers are done
  if (lane_index() == 0) warp_sums[warp_index()] = value;
  __syncthreads();
  Count sum = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) sum += warp_sums[warp];
  return sum;
}

__device__ Count load(const int64_t* counts, int64_t k, int64_t n) { return k < n ? static_cast<Count>(counts[k]) : 0; }

// counts points at the first count here and below.
__global__ void __launch_bounds__(kThreads)
    sum_tiles(const int64_t* counts, int64_t n, int64_t num_tiles, int64_t* tile_sums) {
  for (int64_t tile = blockIdx.x; tile < num_tiles; tile += gridDim.x) {
    Count sum = 0;
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      sum += load(counts, tile * kPrefixTile + round * kThreads + threadIdx.x, n);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) tile_sums[tile] = static_cast<int64_t>(sum);
  }
}

__global__ void __launch_bounds__(kThreads)
    add_up(int64_t* counts, int64_t n, int64_t num_tiles, const int64_t* tile_sums, int64_t* total) {
  DTNN_SHARED_ARRAY(Count, warp_total, kWarps);
  for (int64_t tile = blockIdx.x; tile < num_tiles; tile += gridDim.x) {
    Count before = 0;
    for (int64_t k = threadIdx.x; k < tile; k += kThreads) before += static_cast<Count>(tile_sums[k]);
    before = block_sum(before);

    const int64_t first = tile * kPrefixTile + warp_index() * kRounds * kWarp + lane_index();
    Count value[kRounds];
    Count sum = 0;
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      value[round] = load(counts, first + round * kWarp, n);
      sum += value[round];
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) warp_total[warp_index()] = sum;
    __syncthreads();
    for (int warp = 0; warp < warp_index(); ++warp) before += warp_total[warp];
    __syncthreads();  // before the next tile overwrites the totals
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      const Count running = before + warp_running_sum(value[round]);
      const int64_t k = first + round * kWarp;
      if (k < n) counts[k] = static_cast<int64_t>(running);
      if (k == n - 1 && total != nullptr) *total = static_cast<int64_t>(running);
      before = __shfl_sync(kAllLanes, running, kWarp - 1);
    }
    if (tile == 0 && threadIdx.x == 0) {
      counts[-1] = 0;
      if (n == 0 && total != nullptr) *total = 0;
    }
  }
}

}  // namespace

const char* launch_counts_to_ptr(int64_t* counts, int64_t n, int64_t* tile_sums, int64_t* total, void* stream) {
  const int64_t num_tiles = num_prefix_tiles(n);
  const unsigned blocks = grid_size(num_tiles);
  if (num_tiles > 1) DTNN_LAUNCH(sum_tiles, blocks, kThreads, 0, stream, counts + 1, n, num_tiles, tile_sums);
  DTNN_LAUNCH(add_up, blocks, kThreads, 0, stream, counts + 1, n, num_tiles, tile_sums, total);
  return launch_error();
}

}  // namespace dtnn::cuda
