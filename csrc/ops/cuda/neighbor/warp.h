// SPDX-License-Identifier: MIT
// A warp that works as one: running sums, and work that comes in pieces of different lengths.
#pragma once

#include "../gpu.h"

namespace dtnn::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarp = 32;

__device__ inline int lane_index() { return static_cast<int>(threadIdx.x % kWarp); }
__device__ inline int warp_index() { return static_cast<int>(threadIdx.x / kWarp); }
__device__ inline unsigned lanes_below() { return (1u << lane_index()) - 1; }

template <typename T>
__device__ T warp_sum(T value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

// The sum of this lane's value and those of the lanes below.
template <typename T>
__device__ T warp_running_sum(T value) {
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const T below = __shfl_up_sync(kAllLanes, value, offset);
    if (lane_index() >= offset) value += below;
  }
  return value;
}

// Walks the items of `num_segments` segments in order, 32 items at a time, however they are spread over the segments.
//   prepare(q) -> items of segment q; one lane calls it for each segment, 32 segments at a time, and may leave data for
//                 `visit` in shared memory
//   visit(active, q, item): all lanes call it together, idle ones with active = false
// `start` is shared memory of this warp for 32 numbers. All lanes must call with the same arguments.
template <typename Prepare, typename Visit>
__device__ __forceinline__ void walk_segments(int64_t num_segments, uint64_t* start, Prepare&& prepare, Visit&& visit) {
  const int lane = lane_index();
  for (int64_t tile = 0; tile < num_segments; tile += kWarp) {
    const unsigned long long items = tile + lane < num_segments ? prepare(tile + lane) : 0;
    const unsigned long long end = warp_running_sum(items);
    const unsigned long long total = __shfl_sync(kAllLanes, end, kWarp - 1);
    start[lane] = end - items;
    __syncwarp();
    for (unsigned long long first = 0; first < total; first += kWarp) {
      const unsigned long long item = first + lane;
      int slot = 0;  // the last segment that starts at or before the item
#pragma unroll
      for (int step = kWarp / 2; step > 0; step /= 2) {
        if (start[slot + step] <= item) slot += step;
      }
      visit(item < total, tile + slot, item - start[slot]);
    }
    __syncwarp();  // before the next tile overwrites the slots
  }
}

}  // namespace dtnn::cuda
