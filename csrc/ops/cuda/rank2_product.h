// SPDX-License-Identifier: MIT
// The kernel under rank2_linear and rank2_gate: rows [num_atoms * K, C] times weight [C, D], where the rows may be
// computed while they are loaded (rank2_rows.h), and an epilogue takes the sums of whole atoms from the registers.
// Every sum is one sequence over ascending channels, so a row's result depends on nothing but the row and the weight.
#pragma once

#include "rank2_multiply.h"

namespace dtnn::cuda {

template <typename T>
struct ProductArgs {
  Rank2Rows<T> source;
  Input<T> rows, mixed, invariant, norm;  // the arrays of `source` that are loaded
  Output<T> grad_gate;
  WeightInput<T> weight;
  Rank2Sizes sizes;
  ProductTiling tiling;
};

// A chunk of a tile of the output; a block's chunks follow each other across tiles.
struct ChunkPosition {
  unsigned tile;
  unsigned chunk;

  __device__ ChunkPosition next(const ProductTiling& tiling) const {
    if (chunk + 1 < tiling.num_chunks()) return {tile, chunk + 1};
    return {tile + gridDim.x, 0};
  }
};

template <typename T>
__device__ __forceinline__ void load_chunk(const ProductArgs<T>& args, ChunkPosition position, Packed<T>* chunk) {
  const ProductTiling& tiling = args.tiling;
  const unsigned rows = tiling.rows(), packs = tiling.steps * kStepPacks;
  const int64_t row = int64_t{position.tile / tiling.column_tiles} * rows;
  const int64_t channel = int64_t{position.chunk} * tiling.steps * kStepDepth<T>;
  const auto place = [rows](unsigned r, unsigned p) { return row_place(rows, r, p); };
  if (args.source.rows != nullptr) load_rows_async(args.rows, row, channel, rows, packs, chunk, place);
  if (args.source.origin == Rank2Rows<T>::kGiven) return;
  const ChunkLayout layout(tiling, args.source, args.sizes.components);
  const unsigned components = static_cast<unsigned>(args.sizes.components), atoms = rows / components;
  const int64_t atom = row / components;
  const auto in_order = [packs](unsigned a, unsigned p) { return a * packs + p; };
  if (args.source.mixed != nullptr) load_rows_async(args.mixed, row, channel, rows, packs, chunk + layout.mixed, place);
  load_rows_async(args.invariant, atom, channel, atoms, packs, chunk + layout.invariant, in_order);
  if (args.source.norm != nullptr) {
    load_rows_async(args.norm, atom, channel, atoms, packs, chunk + layout.norm, in_order);
  }
}

// Puts the rows to multiply where the given ones are, and writes grad_gate.
template <typename T>
__device__ __forceinline__ void compute_rows(const ProductArgs<T>& args, ChunkPosition position, Packed<T>* chunk) {
  const ProductTiling& tiling = args.tiling;
  const unsigned rows = tiling.rows(), packs = tiling.steps * kStepPacks;
  const unsigned components = static_cast<unsigned>(args.sizes.components), atoms = rows / components;
  const ChunkLayout layout(tiling, args.source, components);
  const bool writes_gate = args.source.grad_gate != nullptr && position.tile % tiling.column_tiles == 0;
  const unsigned shift = log2_of(packs);
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < atoms * packs; i += blockDim.x) {
    const unsigned a = i >> shift, p = i & (packs - 1);
    const Packed<T> norm = args.source.norm == nullptr ? Packed<T>{} : chunk[layout.norm + i];
    const Packed<T> factor = row_factor(args.source, chunk[layout.invariant + i], norm);
    Packed<T> sum{};
#pragma unroll 1
    for (unsigned k = 0; k < components; ++k) {
      const unsigned place = row_place(rows, a * components + k, p);
      const Packed<T> given = args.source.rows == nullptr ? Packed<T>{} : chunk[place];
      const Packed<T> mixed = args.source.mixed == nullptr ? Packed<T>{} : chunk[layout.mixed + place];
      chunk[place] = row_pack(args.source, k, factor, given, mixed);
#pragma unroll
      for (int v = 0; v < kPackSize<T>; ++v) sum.item[v] += given.item[v] * mixed.item[v];
    }
    const int64_t atom = int64_t{position.tile / tiling.column_tiles} * atoms + a;
    if (!writes_gate || atom >= args.sizes.num_atoms) continue;
#pragma unroll
    for (int v = 0; v < kPackSize<T>; ++v) sum.item[v] *= factor.item[v] * (1 - factor.item[v]);
    const int64_t channel = int64_t{position.chunk} * tiling.steps * kStepDepth<T> + p * kPackSize<T>;
    store_pack(args.grad_gate, atom, channel, sum);
  }
}

// Multiply: MultiplyAdd or TensorCoreMultiply. Epilogue: finish(sums, row, atom, sizes, column), which gets the
// sums of the 6 rows from `row` on, which begin with `atom`, of the packs of columns at column, column + 4 packs, ...
// Not a template in K: three copies of the unrolled rows in one kernel cost it registers.
template <typename Multiply, typename Epilogue>
__global__ void __launch_bounds__(kProductThreads, 2)
    multiply_rows(ProductArgs<typename Multiply::Item> args, Epilogue epilogue) {
  using T = typename Multiply::Item;
  DTNN_DYNAMIC_SHARED(Packed<T>, memory);
  const ProductTiling& tiling = args.tiling;
  const unsigned chunk_packs = ChunkLayout(tiling, args.source, args.sizes.components).end;
  const unsigned weight_step = tiling.columns * kStepPacks;  // packs
  Packed<T>* const weight = memory + 2 * chunk_packs;

  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const unsigned warp_column = warp % tiling.warp_columns * (tiling.columns / tiling.warp_columns);
  const unsigned group = Multiply::group(lane), quad = Multiply::quad(lane);
  const unsigned lane_row = warp / tiling.warp_columns * kWarpRows + group * kLaneRows;
  const unsigned key = row_key(lane_row / kLaneRows);

  Sums<T, Multiply::lane_packs> sums{};
  ChunkPosition position{blockIdx.x, 0};
  unsigned weight_tile = tiling.column_tiles;  // whose columns of the weight are in shared memory
  unsigned stage = 0;
  load_chunk(args, position, memory);
  while (position.tile < tiling.num_tiles) {
    const ChunkPosition next = position.next(tiling);
    Packed<T>* const chunk = memory + stage * chunk_packs;
    wait_for_copies();
    __syncthreads();  // this chunk is complete, and no thread reads the other one any more
    if (next.tile < tiling.num_tiles) load_chunk(args, next, memory + (1 - stage) * chunk_packs);
    const unsigned column_tile = position.tile % tiling.column_tiles;
    const int64_t column = int64_t{column_tile} * tiling.columns;
    const unsigned first_step = position.chunk * tiling.steps;
    if (column_tile != weight_tile || !tiling.weight_stays()) {
      const int64_t first_in = tiling.weight_stays() ? 0 : int64_t{first_step} * kStepDepth<T>;
      Multiply::load_weight(args.weight, first_in, column, tiling.weight_steps, tiling.columns, tiling.by_columns,
                            weight);
      weight_tile = column_tile;
      __syncthreads();
    }
    if (!Epilogue::rows_are_given && args.source.origin != Rank2Rows<T>::kGiven) {
      compute_rows(args, position, chunk);
      __syncthreads();
    }
    const unsigned steps = min(tiling.steps, tiling.all_steps - first_step);
    const Packed<T>* rows = chunk + lane_row * kStepPacks;
    const Packed<T>* factors = weight + (tiling.weight_stays() ? first_step * weight_step : 0);
#pragma unroll 1
    for (unsigned s = 0; s < steps; ++s, rows += tiling.rows() * kStepPacks, factors += weight_step) {
      Multiply::step(sums, rows, key, group, factors, tiling.columns, warp_column, quad);
    }
    if (next.tile != position.tile) {
      const unsigned components = static_cast<unsigned>(args.sizes.components), rows_of_tile = tiling.rows();
      const int64_t row_tile = position.tile / tiling.column_tiles;
      const int64_t atom = row_tile * (rows_of_tile / components) + lane_row / components;
      epilogue.finish(sums, row_tile * rows_of_tile + lane_row, atom, args.sizes,
                      column + warp_column + quad * kPackSize<T>);
#pragma unroll
      for (unsigned i = 0; i < kLaneRows; ++i) {
#pragma unroll
        for (Packed<T>& sum : sums[i]) sum = Packed<T>{};
      }
    }
    position = next;
    stage = 1 - stage;
  }
}

template <typename Multiply, typename Epilogue>
const char* launch_product(const Rank2Rows<typename Multiply::Item>& rows,
                           const Rank2Weight<typename Multiply::Item>& weight, const Rank2Sizes& sizes,
                           const Epilogue& epilogue, void* stream) {
  using T = typename Multiply::Item;
  const int64_t num_rows = sizes.num_atoms * sizes.components, channels = sizes.channels_in;
  ProductTiling tiling;
  if (!tile_product(rows, sizes, Multiply::lane_packs, static_cast<size_t>(max_shared_bytes()), tiling))
    return kTooManyTiles;
  const ProductArgs<T> args{rows,
                            Input<T>(rows.rows, num_rows, channels),
                            Input<T>(rows.mixed, num_rows, channels),
                            Input<T>(rows.invariant, sizes.num_atoms, channels),
                            Input<T>(rows.norm, sizes.num_atoms, channels),
                            Output<T>(rows.grad_gate, channels),
                            WeightInput<T>(weight, sizes),
                            sizes,
                            tiling};
  const size_t packs = 2 * size_t{ChunkLayout(tiling, rows, sizes.components).end} +
                       size_t{tiling.weight_steps} * kStepPacks * tiling.columns;
  auto* const kernel = multiply_rows<Multiply, Epilogue>;
  const int bytes = static_cast<int>(packs * kPackBytes);
  allow_shared_bytes<multiply_rows<Multiply, Epilogue>>(bytes);
  // Whole turns of the columns, so that a block keeps its part of the weight.
  const unsigned most = kMaxBlocks / tiling.column_tiles * tiling.column_tiles;
  const unsigned blocks = tiling.num_tiles < most || most == 0 ? tiling.num_tiles : most;
  DTNN_LAUNCH(kernel, grid_size(blocks), tiling.threads(), bytes, stream, args, epilogue);
  return launch_error();
}

// With the arithmetic that type, precision and width ask for.
template <template <typename> class Epilogue, typename T>
const char* launch_product_as(Precision precision, const Rank2Rows<T>& rows, const Rank2Weight<T>& weight,
                              const Rank2Sizes& sizes, const Epilogue<T>& epilogue, void* stream) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (precision == Precision::kTf32) {
      return launch_product<TensorCoreMultiply<Precision::kTf32>>(rows, weight, sizes, epilogue, stream);
    }
    if (precision == Precision::kBfloat16) {
      return launch_product<TensorCoreMultiply<Precision::kBfloat16>>(rows, weight, sizes, epilogue, stream);
    }
    if (sizes.channels_out <= 16) return launch_product<MultiplyAdd<T, 1>>(rows, weight, sizes, epilogue, stream);
  }
  return launch_product<MultiplyAdd<T, 2>>(rows, weight, sizes, epilogue, stream);
}

}  // namespace dtnn::cuda
