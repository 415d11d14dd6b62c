// SPDX-License-Identifier: MIT
// The products of a tile program: rows [rows * components, depth] of a tile times a weight, for a block of threads.
//
// A lane computes one pack of columns of 1, 2, 3 or 6 rows. Lanes that follow each other have the same rows, so a warp
// reads few different ones. The depth goes in chunks: while one is multiplied, the next one, also that of the next
// product, is on its way to shared memory. Values of the tile are read where they are; inputs, and rows that no pack
// begins, are copied into the stage. Every sum is one sequence over terms and ascending channels.
#pragma once

#include "tile_memory.h"

namespace dtnn::cuda {

// How a block shares a product: passes over `pass_rows` rows times a pack for each column lane.
template <typename T>
struct PassLayout {
  unsigned all_rows, column_lanes, row_lanes, lane_rows, chunk_packs;

  __device__ __forceinline__ PassLayout(const TileStep& step, unsigned tile_rows)
      : all_rows(tile_rows * static_cast<unsigned>(step.components)) {
    column_lanes = step.channels <= 8 * kPackSize<T> ? 8 : 16;
    row_lanes = kTileThreads / column_lanes;
    const unsigned wanted = (all_rows + row_lanes - 1) / row_lanes;
    lane_rows = wanted <= 3 ? wanted : 6;
    // kStageRowPacks holds a chunk of the rows of a pass.
    const unsigned rows = pass_rows();
    chunk_packs = rows <= 48 ? 8 : rows <= 96 ? 4 : 2;
  }
  __device__ __forceinline__ unsigned pass_rows() const { return row_lanes * lane_rows; }
  __device__ __forceinline__ unsigned pass_columns() const { return column_lanes * kPackSize<T>; }
};

// A part of the program's products, in the order in which a block computes them.
struct TileChunk {
  int step;              // -1: none
  unsigned column, row;  // the pass's first
  int term;
  unsigned pack;  // of the depth

  template <typename T>
  __device__ __forceinline__ static TileChunk first(const TileKernelArgs<T>& args, unsigned step) {
    const int product = step < args.num_steps ? args.steps[step].next_product : -1;
    return {product, 0, 0, product < 0 ? 0 : args.steps[product].first_term, 0};
  }

  template <typename T>
  __device__ __forceinline__ TileChunk next(const TileKernelArgs<T>& args, const PassLayout<T>& layout) const {
    const TileStep& here = args.steps[step];
    TileChunk result = *this;
    result.pack += layout.chunk_packs;
    if (result.pack * kPackSize<T> < static_cast<unsigned>(args.terms[term].depth)) return result;
    result.pack = 0;
    if (++result.term < here.end_term) return result;
    result.term = here.first_term;
    result.row += layout.pass_rows();
    if (result.row < layout.all_rows) return result;
    result.row = 0;
    result.column += layout.pass_columns();
    if (result.column < static_cast<unsigned>(here.channels)) return result;
    return first(args, static_cast<unsigned>(step) + 1);
  }
};

// Whether all rows of `width` numbers begin at multiples of 16 bytes.
template <typename T>
__device__ __forceinline__ bool are_packed(const T* rows, unsigned width) {
  return width % kPackSize<T> == 0 && reinterpret_cast<uintptr_t>(rows) % kPackBytes == 0;
}

// Starts to copy numbers `column`.. of a row [width] into a pack; what is outside is 0.
template <typename T>
__device__ __forceinline__ void copy_columns_async(Packed<T>* to, const T* row, bool packed, unsigned column,
                                                   unsigned width) {
  if (packed) {
    copy_async(to, row + column, column < width);
    return;
  }
#pragma unroll
  for (unsigned v = 0; v < kPackSize<T>; ++v) {
    if (column + v < width) {
      copy_unit_async(&to->item[v], row + column + v);
    } else {
      to->item[v] = 0;
    }
  }
}

// Whether the term's rows are read where they are, in shared memory.
template <typename T>
__device__ __forceinline__ bool is_direct(const TileKernelArgs<T>& args, const TileTerm& term) {
  return args.values == nullptr && args.places[term.x].data == nullptr && term.depth % kPackSize<T> == 0;
}

// The chunk's rows into the stage, from wherever they are.
template <typename T>
__device__ __forceinline__ void copy_rows(const Tile<T>& tile, const PassLayout<T>& layout, const TileChunk& chunk,
                                          const TileTerm& term, Packed<T>* stage) {
  const unsigned depth = static_cast<unsigned>(term.depth), packs = layout.chunk_packs, shift = log2_of(packs);
  const unsigned left = layout.all_rows - chunk.row, rows = left < layout.pass_rows() ? left : layout.pass_rows();
  const T* const from = tile.at(term.x);
  const bool packed = are_packed(from, depth);
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < rows * packs; i += kTileThreads) {
    const unsigned r = i >> shift, p = i & (packs - 1);
    copy_columns_async(stage + i, from + (chunk.row + r) * depth, packed, (chunk.pack + p) * kPackSize<T>, depth);
  }
}

// Starts to fill a stage: the weight, and the rows of an input.
template <typename T>
__device__ __forceinline__ void load_chunk(const Tile<T>& tile, const TileChunk& chunk, Packed<T>* stage) {
  const TileKernelArgs<T>& args = tile.args;
  const TileStep& step = args.steps[chunk.step];
  const TileTerm& term = args.terms[chunk.term];
  const PassLayout<T> layout(step, tile.rows);
  if (args.places[term.x].is_input) copy_rows(tile, layout, chunk, term, stage);
  const unsigned depth = static_cast<unsigned>(term.depth), stride = static_cast<unsigned>(term.row_stride);
  const unsigned channels = static_cast<unsigned>(step.channels), shift = log2_of(layout.column_lanes);
  const T* const from = tile.weights + term.weight;
  const bool packed = channels % kPackSize<T> == 0 && are_packed(from, stride);
  Packed<T>* const to = stage + kStageRowPacks;
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < layout.chunk_packs * kPackSize<T> << shift; i += kTileThreads) {
    const unsigned in = chunk.pack * kPackSize<T> + (i >> shift);
    const unsigned column = chunk.column + (i & (layout.column_lanes - 1)) * kPackSize<T>;
    // Beyond the depth there are zeros, as in the rows' last packs.
    copy_columns_async(to + i, from + (in < depth ? in * stride : 0), packed, column, in < depth ? channels : 0);
  }
}

// The sums of one pass into the output. `chunk` and `stage` go on to the next pass.
template <unsigned lane_rows, typename T>
__device__ __forceinline__ void multiply_pass(const Tile<T>& tile, Packed<T>* memory, const TileStep& step,
                                              const PassLayout<T>& layout, TileChunk& chunk, unsigned& stage,
                                              unsigned first_row, unsigned first_column) {
  const TileKernelArgs<T>& args = tile.args;
  const unsigned column_lane = threadIdx.x & (layout.column_lanes - 1);
  const unsigned row_lane = threadIdx.x >> log2_of(layout.column_lanes);
  const unsigned column = first_column + column_lane * kPackSize<T>, channels = static_cast<unsigned>(step.channels);
  Packed<T> sums[lane_rows];
#pragma unroll
  for (Packed<T>& sum : sums) sum = Packed<T>{};
  if (step.add != 0) {
    const T* const before = tile.at(step.out);
#pragma unroll
    for (unsigned i = 0; i < lane_rows; ++i) {
      const unsigned row = first_row + row_lane + i * layout.row_lanes;
      if (row >= layout.all_rows || column >= channels) continue;
#pragma unroll
      for (unsigned v = 0; v < kPackSize<T>; ++v) {
        if (column + v < channels) sums[i].item[v] = before[row * channels + column + v];
      }
    }
  } else if (step.bias >= 0) {
#pragma unroll
    for (unsigned v = 0; v < kPackSize<T>; ++v) {
      const T bias = column + v < channels ? tile.weights[step.bias + column + v] : T(0);
#pragma unroll
      for (Packed<T>& sum : sums) sum.item[v] = bias;
    }
  }
#pragma unroll 1
  for (int t = step.first_term; t < step.end_term; ++t) {
    const TileTerm& term = args.terms[t];
    const bool direct = is_direct(args, term), later = !direct && !args.places[term.x].is_input;
    const unsigned packs = (static_cast<unsigned>(term.depth) + kPackSize<T> - 1) / kPackSize<T>;
#pragma unroll 1
    for (unsigned pack = 0; pack < packs; pack += layout.chunk_packs) {
      Packed<T>* const here = memory + stage * kStagePacks;
      wait_for_copies();
      __syncthreads();  // this chunk is complete, and no thread reads the other stage any more
      const TileChunk next = chunk.next(args, layout);
      if (next.step >= 0) load_chunk(tile, next, memory + (1 - stage) * kStagePacks);
      if (later) {
        copy_rows(tile, layout, chunk, term, here);
        wait_for_copies();
        __syncthreads();
      }
      const Packed<T>* x = here;
      unsigned stride = layout.chunk_packs, first = first_row;
      if (direct) {
        const unsigned offset = static_cast<unsigned>(args.places[term.x].tile_offset) * args.tile_rows;
        x = memory + kNumStages * kStagePacks + offset / kPackSize<T> + pack;
        stride = packs;
        first = 0;
      }
      unsigned place[lane_rows];
#pragma unroll
      for (unsigned i = 0; i < lane_rows; ++i) {
        // Beyond the last row it is read again.
        place[i] = (min(first_row + row_lane + i * layout.row_lanes, layout.all_rows - 1) - first) * stride;
      }
      const Packed<T>* weight = here + kStageRowPacks + column_lane;
      const unsigned count = min(layout.chunk_packs, packs - pack);
#pragma unroll 1
      for (unsigned p = 0; p < count; ++p) {
        Packed<T> value[lane_rows];
#pragma unroll
        for (unsigned i = 0; i < lane_rows; ++i) value[i] = x[place[i] + p];
#pragma unroll
        for (unsigned v = 0; v < kPackSize<T>; ++v, weight += layout.column_lanes) {
          const Packed<T> w = *weight;
#pragma unroll
          for (unsigned i = 0; i < lane_rows; ++i) add_scaled(sums[i], value[i].item[v], w);
        }
      }
      chunk = next;
      stage = 1 - stage;
    }
  }
  T* const data = tile.at(step.out);
  const bool packed = are_packed(data, channels);
#pragma unroll
  for (unsigned i = 0; i < lane_rows; ++i) {
    const unsigned row = first_row + row_lane + i * layout.row_lanes;
    if (row >= layout.all_rows || column >= channels) continue;
    T* const to = data + row * channels + column;
    if (packed) {
      *reinterpret_cast<Packed<T>*>(to) = sums[i];
    } else {
#pragma unroll
      for (unsigned v = 0; v < kPackSize<T>; ++v) {
        if (column + v < channels) to[v] = sums[i].item[v];
      }
    }
  }
}

// A product with two columns or more.
template <typename T>
__device__ __forceinline__ void product_step(const Tile<T>& tile, Packed<T>* memory, const TileStep& step,
                                             TileChunk& chunk, unsigned& stage) {
  const PassLayout<T> layout(step, tile.rows);
#pragma unroll 1
  for (unsigned column = 0; column < static_cast<unsigned>(step.channels); column += layout.pass_columns()) {
#pragma unroll 1
    for (unsigned row = 0; row < layout.all_rows; row += layout.pass_rows()) {
      switch (layout.lane_rows) {
        case 1:
          multiply_pass<1>(tile, memory, step, layout, chunk, stage, row, column);
          break;
        case 2:
          multiply_pass<2>(tile, memory, step, layout, chunk, stage, row, column);
          break;
        case 3:
          multiply_pass<3>(tile, memory, step, layout, chunk, stage, row, column);
          break;
        default:
          multiply_pass<6>(tile, memory, step, layout, chunk, stage, row, column);
      }
    }
  }
}

}  // namespace dtnn::cuda
