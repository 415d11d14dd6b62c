// SPDX-License-Identifier: MIT
// Sums over the rows of contiguous segments (the bonds or atoms of each crystal), in float64 and in a fixed order, as
// fast for one segment of millions of rows as for thousands of short ones.
//
// The rows are cut into tiles of equal size, for any segments; a warp sums a tile. A segment inside of a tile is
// finished there. For a segment that reaches over an edge the tile leaves a partial sum, and a second kernel adds the
// partial sums of each segment. So no thread counts segments, and the work per warp is the same.
//
// `Source` says what is summed:
//   static constexpr int kNumbers             how many sums a segment has
//   static constexpr int kBlocksPerSm         for sum_segments: left alone, ptxas may spill to fit more into registers
//   int64_t num_rows, num_segments; unsigned rows_per_tile
//   Segment segment_of(int64_t row)           the segment of a row, on the device
//   bool segment(int64_t index, Segment&, BadIndex&)   a segment by its index; false where the index arrays are bad
//   unsigned items(unsigned rows)             a row may be the work of several lanes: items of `rows` rows
//   void add(const Segment&, int64_t row, unsigned item, bool counts, double (&sums)[kNumbers], BadIndex&)
//                                             adds item `item`, counted from `row`, if it counts; all lanes call it
//   void orphan(int64_t row, BadIndex&)       a row that no segment owns
//   void finish(int64_t segment, const double (&sums)[kNumbers])       writes the result, once per segment
//   void fail(int64_t segment)                writes NaN
//   ErrorSink errors
#pragma once

#include "bad_index.h"
#include "gpu.h"

namespace dtnn::cuda {

// Rows begin..end; index -1: the index arrays give them no segment.
struct Segment {
  int64_t index, begin, end;
};

constexpr unsigned kWarpsPerSumBlock = 8;
constexpr unsigned kAllLanes = 0xffffffffu;

// Partial sums of a tile: of the segment that holds its first row, and of one that begins inside and goes on.
template <int K>
struct TilePartials {
  double leading[K];
  double trailing[K];
};

// The sums of all lanes, in each lane.
template <int K>
__device__ __forceinline__ void add_lanes(double (&sums)[K]) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
#pragma unroll
    for (int k = 0; k < K; ++k) sums[k] += __shfl_xor_sync(kAllLanes, sums[k], offset);
  }
}

template <typename Source>
__global__ void __launch_bounds__(32 * kWarpsPerSumBlock)
    sum_tiles(Source source, TilePartials<Source::kNumbers>* partials, int64_t num_tiles) {
  constexpr int K = Source::kNumbers;
  const unsigned lane = threadIdx.x % 32;
  const int64_t stride = int64_t{gridDim.x} * kWarpsPerSumBlock;
  BadIndex bad;
  for (int64_t tile = int64_t{blockIdx.x} * kWarpsPerSumBlock + threadIdx.x / 32; tile < num_tiles; tile += stride) {
    const int64_t tile_begin = tile * source.rows_per_tile;
    const int64_t full_end = tile_begin + source.rows_per_tile;
    const int64_t tile_end = full_end < source.num_rows ? full_end : source.num_rows;
    TilePartials<K>& partial = partials[tile];
    // Where the index arrays are bad, the second kernel may ask for a partial sum that no segment has left.
    if (lane < K) partial.leading[lane] = partial.trailing[lane] = not_a_number<double>();
    for (int64_t row = tile_begin; row < tile_end;) {
      const Segment segment = source.segment_of(row);
      const int64_t piece_end = segment.end < tile_end ? segment.end : tile_end;
      if (segment.index >= 0) {
        const bool is_whole = segment.begin >= tile_begin && segment.end <= tile_end;
        // From the segment's own begin: only in a tile that it began before is that not `row`.
        const int64_t piece_begin = segment.begin > tile_begin ? segment.begin : tile_begin;
        double sums[K] = {};
        const unsigned items = source.items(static_cast<unsigned>(piece_end - piece_begin));
#pragma unroll 1  // by two, ptxas spreads the loads of both over the additions of both
        for (unsigned item = lane; item - lane < items; item += 32) {
          source.add(segment, piece_begin, min(item, items - 1), item < items, sums, bad);
        }
        add_lanes(sums);
        __syncwarp();  // the NaNs are written
        if (lane == 0) {
          if (is_whole) {
            source.finish(segment.index, sums);
          } else {
            double* const out = piece_begin == tile_begin ? partial.leading : partial.trailing;
#pragma unroll
            for (int k = 0; k < K; ++k) out[k] = sums[k];
          }
        }
      } else if (lane == 0) {
        source.orphan(row, bad);
      }
      row = piece_end;
    }
  }
  bad.report(source.errors);
}

// One block per segment: those that no tile could finish, and those without rows.
template <typename Source>
__global__ void __launch_bounds__(256) add_tiles(Source source, const TilePartials<Source::kNumbers>* partials) {
  constexpr int K = Source::kNumbers;
  using Sums = double[K];
  DTNN_SHARED_ARRAY(Sums, warp_sums, 8);
  BadIndex bad;
  for (int64_t index = blockIdx.x; index < source.num_segments; index += gridDim.x) {
    Segment segment;
    const bool good = source.segment(index, segment, bad);
    const int64_t first_tile = good ? segment.begin / source.rows_per_tile : 0;
    const int64_t last_tile =
        good && segment.end > segment.begin ? (segment.end - 1) / source.rows_per_tile : first_tile;
    const bool is_empty = good && segment.begin == segment.end;
    if (good && !is_empty && first_tile == last_tile) continue;  // the same for the whole block
    double sums[K] = {};
    if (good && !is_empty) {
      for (int64_t tile = first_tile + threadIdx.x; tile <= last_tile; tile += blockDim.x) {
        const bool begins_inside = tile == first_tile && segment.begin != tile * source.rows_per_tile;
        const double* const partial = begins_inside ? partials[tile].trailing : partials[tile].leading;
#pragma unroll
        for (int k = 0; k < K; ++k) sums[k] += partial[k];
      }
      add_lanes(sums);
    }
    if (threadIdx.x % 32 == 0) {
#pragma unroll
      for (int k = 0; k < K; ++k) warp_sums[threadIdx.x / 32][k] = sums[k];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) {
#pragma unroll
        for (int k = 0; k < K; ++k) sums[k] += warp_sums[warp][k];
      }
      if (good) {
        source.finish(index, sums);
      } else {
        source.fail(index);
      }
    }
    __syncthreads();  // before the next segment overwrites the sums
  }
  if (threadIdx.x == 0) bad.report(source.errors);
}

constexpr unsigned kWarpItems = 512;  // a longer segment is the work of a block

// The sums of items first, first + step, ... of a segment, by whole warps together.
template <typename Source>
__device__ __forceinline__ void sum_items(const Source& source, const Segment& segment, unsigned first, unsigned step,
                                          double (&sums)[Source::kNumbers], BadIndex& bad) {
  const unsigned items = source.items(static_cast<unsigned>(segment.end - segment.begin));
#pragma unroll 1
  for (unsigned begin = 0; begin < items; begin += step) {
    const unsigned item = begin + first;
    source.add(segment, segment.begin, min(item, items - 1), item < items, sums, bad);
  }
}

// Without tiles and in one launch, for many short segments: a warp for each, the 8 warps of a block together for long
// ones. Writes every segment.
template <typename Source>
__global__ void __launch_bounds__(32 * kWarpsPerSumBlock, Source::kBlocksPerSm) sum_segments(Source source) {
  constexpr int K = Source::kNumbers;
  using Sums = double[K];
  DTNN_SHARED_ARRAY(Sums, warp_sums, kWarpsPerSumBlock);
  DTNN_SHARED_ARRAY(bool, is_long, kWarpsPerSumBlock);
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t stride = int64_t{gridDim.x} * kWarpsPerSumBlock;
  BadIndex bad;
  for (int64_t first = int64_t{blockIdx.x} * kWarpsPerSumBlock; first < source.num_segments; first += stride) {
    const int64_t index = first + warp;
    bool later = false;
    if (index < source.num_segments) {
      Segment segment;
      if (source.segment(index, segment, bad)) {
        later = source.items(static_cast<unsigned>(segment.end - segment.begin)) > kWarpItems;
        if (!later) {
          double sums[K] = {};
          sum_items(source, segment, lane, 32, sums, bad);
          add_lanes(sums);
          if (lane == 0) source.finish(index, sums);
        }
      } else if (lane == 0) {
        source.fail(index);
      }
    }
    if (lane == 0) is_long[warp] = later;
    if (!__syncthreads_or(later)) continue;
    for (unsigned w = 0; w < kWarpsPerSumBlock; ++w) {
      if (!is_long[w]) continue;
      Segment segment;
      source.segment(first + w, segment, bad);
      double sums[K] = {};
      sum_items(source, segment, threadIdx.x, blockDim.x, sums, bad);
      add_lanes(sums);
      if (lane == 0) {
#pragma unroll
        for (int k = 0; k < K; ++k) warp_sums[warp][k] = sums[k];
      }
      __syncthreads();
      if (threadIdx.x == 0) {
        for (unsigned other = 1; other < kWarpsPerSumBlock; ++other) {
#pragma unroll
          for (int k = 0; k < K; ++k) sums[k] += warp_sums[other][k];
        }
        source.finish(first + w, sums);
      }
      __syncthreads();  // before the next segment overwrites the sums
    }
    __syncthreads();  // before the next segments overwrite `is_long`
  }
  bad.report(source.errors);
}

inline int64_t count_tiles(int64_t num_rows, int64_t rows_per_tile) {
  return (num_rows + rows_per_tile - 1) / rows_per_tile;
}

// `partials` has room for all tiles. Every segment's result must be NaN before: with bad index arrays there may be
// segments that no tile finishes.
template <typename Source>
const char* launch_segment_sums(const Source& source, void* partials, void* stream) {
  auto* const memory = static_cast<TilePartials<Source::kNumbers>*>(partials);
  const int64_t tiles = count_tiles(source.num_rows, source.rows_per_tile);
  if (tiles > 0) {
    const int64_t blocks = (tiles + kWarpsPerSumBlock - 1) / kWarpsPerSumBlock;
    DTNN_LAUNCH(sum_tiles<Source>, grid_size(blocks), 32 * kWarpsPerSumBlock, 0, stream, source, memory, tiles);
    if (const char* const error = launch_error()) return error;
  }
  // A single segment may have thousands of tiles, which a warp would read one after the other.
  const unsigned threads = source.num_segments < 64 ? 256 : 32;
  DTNN_LAUNCH(add_tiles<Source>, grid_size(source.num_segments), threads, 0, stream, source, memory);
  return launch_error();
}

// Writes every segment; needs no memory. Rows that no segment owns are not looked at.
template <typename Source>
const char* launch_direct_segment_sums(const Source& source, void* stream) {
  const int64_t blocks = (source.num_segments + kWarpsPerSumBlock - 1) / kWarpsPerSumBlock;
  DTNN_LAUNCH(sum_segments<Source>, grid_size(blocks), 32 * kWarpsPerSumBlock, 0, stream, source);
  return launch_error();
}

}  // namespace dtnn::cuda
