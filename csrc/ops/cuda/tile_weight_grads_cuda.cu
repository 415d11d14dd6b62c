// SPDX-License-Identifier: MIT
// The gradients of all weights of a tile program from the rows of a chunk: x^T grad for each product. A block takes a
// tile of 64 x 64 weights, a member and a group of rows, and adds to its own place. The inner loop is the one of
// rank2_weight_grad.
#include <algorithm>

#include "rank2_outer.h"
#include "tile_backward.h"

namespace dtnn::cuda {
namespace {

constexpr unsigned kThreads = 128;  // four warps, each 32 x 32 weights
constexpr unsigned kTile = static_cast<unsigned>(kWeightTile);

template <typename T>
constexpr unsigned kStageRows = sizeof(T) == sizeof(float) ? 32 : 16;
template <typename T>
constexpr unsigned kTilePacks = kTile / kPackSize<T>;
template <typename T>
constexpr unsigned kMatrixPacks = kStageRows<T> * kTilePacks<T>;  // of one matrix in a stage

// Rows of a matrix [num_rows, width] from a column on.
template <typename T>
struct GroupRows {
  const T* data;
  int64_t end;
  int width;
  int first_column;
  bool packed;

  __device__ __forceinline__ GroupRows(const void* data_, int64_t offset, int64_t end_, int width_, int first_column_)
      : data(static_cast<const T*>(data_) + offset), end(end_), width(width_), first_column(first_column_) {
    packed = width % kPackSize<T> == 0 && reinterpret_cast<uintptr_t>(data) % kPackBytes == 0;
  }

  // Starts to load rows into a stage; zeros outside.
  __device__ __forceinline__ void load(int64_t row, Packed<T>* to) const {
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < kMatrixPacks<T>; i += kThreads) {
      const int64_t r = row + i / kTilePacks<T>;
      const int column = first_column + static_cast<int>(i % kTilePacks<T>) * kPackSize<T>;
      const bool inside = r < end && column < width;
      const T* const from = data + (inside ? r * width + column : 0);
      if (packed) {
        copy_async(to + i, from, inside);
        continue;
      }
#pragma unroll
      for (int v = 0; v < kPackSize<T>; ++v) {
        if (inside && column + v < width) {
          copy_unit_async(&to[i].item[v], from + v);
        } else {
          to[i].item[v] = 0;
        }
      }
    }
  }
};

template <typename T>
__global__ void __launch_bounds__(kThreads) add_weight_grads(TileWeightGradArgs<T> args) {
  using Outer = OuterMultiplyAdd<T, 1>;
  DTNN_SHARED_ARRAY(Packed<T>, memory, 4 * kMatrixPacks<T>);
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const unsigned warp_depth = warp / 2 * 32, warp_channel = warp % 2 * 32;
  for (int64_t work = blockIdx.x; work < args.num_items * args.groups * args.members; work += gridDim.x) {
    const TileWeightItem& item = args.items[work % args.num_items];
    const int64_t group = work / args.num_items % args.groups, member = work / args.num_items / args.groups;
    const int64_t rows = args.rows * item.components, skipped = args.first_row * item.components;
    const int64_t group_rows = (rows + args.groups - 1) / args.groups;
    const int64_t begin = group * group_rows, end = begin + group_rows < rows ? begin + group_rows : rows;
    const GroupRows<T> x(item.x, member * item.x_member_stride + (item.x_is_local ? 0 : skipped * item.depth), end,
                         item.depth, item.first_depth);
    const GroupRows<T> grad(item.grad,
                            member * item.grad_member_stride + (item.grad_is_local ? 0 : skipped * item.channels), end,
                            item.channels, item.first_channel);
    const bool has_weights = item.first_depth + static_cast<int>(warp_depth) < item.depth &&
                             item.first_channel + static_cast<int>(warp_channel) < item.channels;
    typename Outer::Sums sums{};
    T bias_sum = 0;
    unsigned number = 0;
    if (begin < end) {
      x.load(begin, memory);
      grad.load(begin, memory + kMatrixPacks<T>);
    }
    for (int64_t row = begin; row < end; row += kStageRows<T>, number = 1 - number) {
      const Packed<T>* const stage = memory + 2 * number * kMatrixPacks<T>;
      wait_for_copies();
      __syncthreads();  // this stage is complete, and no thread reads the other one any more
      if (row + kStageRows<T> < end) {
        Packed<T>* const next = memory + 2 * (1 - number) * kMatrixPacks<T>;
        x.load(row + kStageRows<T>, next);
        grad.load(row + kStageRows<T>, next + kMatrixPacks<T>);
      }
#pragma unroll 1
      for (unsigned r = 0; has_weights && r < kStageRows<T>; r += kOuterRows) {
        Outer::add_rows(sums, stage + r * kTilePacks<T> + warp_depth / kPackSize<T>, kTilePacks<T>,
                        stage + kMatrixPacks<T> + r * kTilePacks<T> + warp_channel / kPackSize<T>, kTilePacks<T>, lane);
      }
      if (item.bias >= 0 && threadIdx.x < kTile) {
        const T* const column = reinterpret_cast<const T*>(stage + kMatrixPacks<T>) + threadIdx.x;
#pragma unroll 8
        for (unsigned r = 0; r < kStageRows<T>; ++r) bias_sum += column[r * kTile];
      }
    }
    T* const out = args.partial + (group * args.members + member) * args.num_weights;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      const int depth = static_cast<int>(warp_depth + Outer::out_channel(lane, i));
      if (item.first_depth + depth >= item.depth) continue;
#pragma unroll
      for (unsigned e = 0; e < kLaneIn; ++e) {
        const int channel = static_cast<int>(warp_channel + Outer::in_channel(lane, e));
        if (item.first_channel + channel >= item.channels) continue;
        out[item.weight + int64_t{depth} * item.row_stride + channel] += sums[i][e];
      }
    }
    if (item.bias >= 0 && threadIdx.x < kTile && item.first_channel + static_cast<int>(threadIdx.x) < item.channels) {
      out[item.bias + threadIdx.x] += bias_sum;
    }
    __syncthreads();  // before the next item's rows
  }
}

template <typename T>
__global__ void __launch_bounds__(128)
    sum_groups(const T* parts, T* out, int64_t count, int64_t groups, int64_t stride) {
  for (int64_t i = int64_t{blockIdx.x} * 128 + threadIdx.x; i < count; i += int64_t{gridDim.x} * 128) {
    T sum = 0;
#pragma unroll 4
    for (int64_t g = 0; g < groups; ++g) sum += parts[g * stride + i];
    out[i] = sum;
  }
}

}  // namespace

template <typename T>
const char* launch_tile_weight_grads(const TileWeightGradArgs<T>& args, void* stream) {
  const int64_t blocks = args.num_items * args.groups * args.members;
  if (blocks == 0 || args.rows == 0) return nullptr;
  DTNN_LAUNCH(add_weight_grads<T>, grid_size(blocks), kThreads, 0, stream, args);
  return launch_error();
}

template <typename T>
const char* launch_sum_of_groups(const T* parts, T* out, int64_t count, int64_t groups, int64_t stride, void* stream) {
  if (count == 0) return nullptr;
  DTNN_LAUNCH(sum_groups<T>, grid_size((count + 127) / 128), 128, 0, stream, parts, out, count, groups, stride);
  return launch_error();
}

#define DTNN_TILE_WEIGHT_GRADS(T)                                                        \
  template const char* launch_tile_weight_grads<T>(const TileWeightGradArgs<T>&, void*); \
  template const char* launch_sum_of_groups<T>(const T*, T*, int64_t, int64_t, int64_t, void*);
DTNN_TILE_WEIGHT_GRADS(float)
DTNN_TILE_WEIGHT_GRADS(double)

}  // namespace dtnn::cuda
