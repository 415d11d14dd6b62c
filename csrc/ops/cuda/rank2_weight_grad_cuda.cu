// SPDX-License-Identifier: MIT
// grad_weight [D, C] = total [rows, D]^T * x [rows, C]. The rows are cut into chunks that follow from the shape alone.
// A block sums a chunk for a tile of the output; its warps share the tile and, when the tile is small, the rows. The
// sums of warps, then those of chunks, are added in order: the same bits in every run, on every GPU.
#include "rank2_outer.h"

namespace dtnn::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / 32;
constexpr size_t kStageBytes = 32 * 1024;  // wanted: two stages of two blocks fit into the shared memory of an sm_80
// A stage of one split is 48 KiB at the most (16 rows of float64 through a norm, 64 channels of four arrays and 128 of
// x), of several half of this: two fit into 99 KiB. Sizes must not follow the GPU's limit: the bits follow from them.
constexpr size_t kMaxStageBytes = 80 * 1024;
constexpr int64_t kMinChunkRows = 256;
constexpr int64_t kMaxChunks = 264;  // an H100 runs as many blocks at once

struct WeightGradTiling {
  unsigned warps_out, warps_in, row_splits;  // of a block's warps
  unsigned width_out, width_in;              // channels of a tile
  unsigned rows;                             // in shared memory at a time
  unsigned tiles_out, tiles_in, num_chunks;
  unsigned num_tiles;  // of all chunks
  int64_t chunk_rows;

  unsigned threads() const { return 32 * warps_out * warps_in * row_splits; }
  // Of a row of the output's tile in shared memory: without the 4 more, all rows would begin in the same bank.
  __host__ __device__ unsigned out_stride() const { return width_in + 4; }
};

// Where the arrays of a stage lie in shared memory: offsets in packs. The rows of `total` are at 0.
struct StageLayout {
  unsigned mixed, invariant, norm, x, end;

  template <typename T>
  __host__ __device__ StageLayout(const WeightGradTiling& tiling, const Rank2Rows<T>& total, int64_t components) {
    const unsigned packs = tiling.width_out / kPackSize<T>;
    const unsigned atom_packs = max_atoms(tiling, components) * packs;
    mixed = tiling.rows * packs;
    invariant = mixed + (total.mixed == nullptr ? 0 : tiling.rows * packs);
    norm = invariant + (total.invariant == nullptr ? 0 : atom_packs);
    x = norm + (total.norm == nullptr ? 0 : atom_packs);
    end = x + tiling.rows * (tiling.width_in / kPackSize<T>);
  }

  // A stage may begin and end inside of an atom.
  static __host__ __device__ unsigned max_atoms(const WeightGradTiling& tiling, int64_t components) {
    return components == 1 ? tiling.rows : tiling.rows / static_cast<unsigned>(components) + 2;
  }
};

template <typename T>
struct WeightGradInputs {
  Rank2Rows<T> source;
  Input<T> rows, mixed, invariant, norm, x;
  T* partial;  // [num_chunks, D, C]
  Rank2Sizes sizes;
  WeightGradTiling tiling;
};

// The rows of a chunk, where in an atom they begin, and the channels of a tile. 32 bits for the rows are enough: memory
// ends before a chunk has 2^32.
struct WeightGradTile {
  int64_t begin;
  unsigned rows;
  unsigned chunk;
  int64_t begin_atom;
  unsigned begin_component;
  unsigned tile_out, tile_in;

  __device__ WeightGradTile(const WeightGradTiling& tiling, unsigned tile, const Rank2Sizes& sizes) {
    tile_in = tile % tiling.tiles_in;
    tile_out = tile / tiling.tiles_in % tiling.tiles_out;
    chunk = tile / tiling.tiles_in / tiling.tiles_out;
    begin = chunk * tiling.chunk_rows;
    rows = static_cast<unsigned>(min(tiling.chunk_rows, sizes.num_atoms * sizes.components - begin));
    begin_atom = begin / sizes.components;
    begin_component = static_cast<unsigned>(begin % sizes.components);
  }
};

template <typename Outer, typename T>
__device__ __forceinline__ void load_stage(const WeightGradInputs<T>& args, const WeightGradTile& chunk_tile,
                                           unsigned row, Packed<T>* stage) {
  const WeightGradTiling& tiling = args.tiling;
  const StageLayout layout(tiling, args.source, args.sizes.components);
  const unsigned packs_out = tiling.width_out / kPackSize<T>, packs_in = tiling.width_in / kPackSize<T>;
  const auto load = [&](Input<T> from, int64_t channel, unsigned packs, unsigned offset) {
    from.num_rows = chunk_tile.begin + chunk_tile.rows;  // rows of the next chunk are 0 here
    load_rows_async(from, chunk_tile.begin + row, channel, tiling.rows, packs, stage + offset,
                    [packs](unsigned r, unsigned p) { return r * packs + Outer::place(r, p); });
  };
  const int64_t out = int64_t{chunk_tile.tile_out} * tiling.width_out;
  load(args.x, int64_t{chunk_tile.tile_in} * tiling.width_in, packs_in, layout.x);
  if (args.source.rows != nullptr) load(args.rows, out, packs_out, 0);
  if (args.source.origin == Rank2Rows<T>::kGiven) return;
  if (args.source.origin == Rank2Rows<T>::kThroughNorm) load(args.mixed, out, packs_out, layout.mixed);
  const unsigned atoms = StageLayout::max_atoms(tiling, args.sizes.components);
  const auto in_order = [packs_out](unsigned a, unsigned p) { return a * packs_out + p; };
  const unsigned components = static_cast<unsigned>(args.sizes.components);
  const int64_t atom = chunk_tile.begin_atom + (chunk_tile.begin_component + row) / components;
  load_rows_async(args.invariant, atom, out, atoms, packs_out, stage + layout.invariant, in_order);
  if (args.source.origin == Rank2Rows<T>::kThroughNorm) {
    load_rows_async(args.norm, atom, out, atoms, packs_out, stage + layout.norm, in_order);
  }
}

// Puts `total` where the given rows are.
template <typename Outer, typename T>
__device__ __forceinline__ void compute_total(const WeightGradInputs<T>& args, const WeightGradTile& chunk_tile,
                                              unsigned row, Packed<T>* stage) {
  const WeightGradTiling& tiling = args.tiling;
  const unsigned components = static_cast<unsigned>(args.sizes.components);
  const StageLayout layout(tiling, args.source, components);
  const unsigned packs = tiling.width_out / kPackSize<T>;
  const unsigned component = (chunk_tile.begin_component + row) % components;  // of the first row
  const bool has_norm = args.source.origin == Rank2Rows<T>::kThroughNorm;
  const unsigned shift = log2_of(packs);
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < tiling.rows * packs; i += blockDim.x) {
    const unsigned r = i >> shift, p = i & (packs - 1);
    const unsigned place = r * packs + Outer::place(r, p);
    const unsigned atom_pack = (component + r) / components * packs + p;
    Packed<T> value{};
    if (row + r < chunk_tile.rows) {
      const Packed<T> norm = has_norm ? stage[layout.norm + atom_pack] : Packed<T>{};
      const Packed<T> factor = row_factor(args.source, stage[layout.invariant + atom_pack], norm);
      const Packed<T> given = args.source.rows == nullptr ? Packed<T>{} : stage[place];
      const Packed<T> mixed = has_norm ? stage[layout.mixed + place] : Packed<T>{};
      value = row_pack(args.source, (component + r) % components, factor, given, mixed);
    }
    stage[place] = value;
  }
}

template <typename Outer>
__global__ void __launch_bounds__(kThreads, 2) sum_outer_products(WeightGradInputs<typename Outer::Item> args) {
  using T = typename Outer::Item;
  DTNN_DYNAMIC_SHARED(Packed<T>, memory);
  const WeightGradTiling& tiling = args.tiling;
  const StageLayout layout(tiling, args.source, args.sizes.components);
  const unsigned packs_out = tiling.width_out / kPackSize<T>, packs_in = tiling.width_in / kPackSize<T>;
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const unsigned first_in = warp % tiling.warps_in * 32;
  const unsigned first_out = warp / tiling.warps_in % tiling.warps_out * (32 * Outer::out_blocks);
  const unsigned split = warp / (tiling.warps_in * tiling.warps_out);
  const unsigned split_rows = tiling.rows / tiling.row_splits;
  for (unsigned tile = blockIdx.x; tile < tiling.num_tiles; tile += gridDim.x) {
    const WeightGradTile chunk_tile(tiling, tile, args.sizes);
    typename Outer::Sums sums{};
    unsigned number = 0;
    load_stage<Outer>(args, chunk_tile, 0, memory);
    for (unsigned row = 0; row < chunk_tile.rows; row += tiling.rows, number = 1 - number) {
      Packed<T>* const stage = memory + number * layout.end;
      wait_for_copies();
      __syncthreads();  // this stage is complete, and no thread reads the other one any more
      if (row + tiling.rows < chunk_tile.rows) {
        load_stage<Outer>(args, chunk_tile, row + tiling.rows, memory + (1 - number) * layout.end);
      }
      if (args.source.origin != Rank2Rows<T>::kGiven) {
        compute_total<Outer>(args, chunk_tile, row, stage);
        __syncthreads();
      }
      const Packed<T>* total = stage + split * split_rows * packs_out + first_out / kPackSize<T>;
      const Packed<T>* x = stage + layout.x + split * split_rows * packs_in + first_in / kPackSize<T>;
#pragma unroll 1
      for (unsigned r = 0; r < split_rows; r += kOuterRows) {
        Outer::add_rows(sums, total + r * packs_out, packs_out, x + r * packs_in, packs_in, lane);
      }
    }
    __syncthreads();  // the stages become the tile of the output
    for (unsigned s = 0; s < tiling.row_splits; ++s) {
      if (s == split) {
#pragma unroll
        for (unsigned i = 0; i < 4 * Outer::out_blocks; ++i) {
          Packed<T>* const out_row =
              memory + ((first_out + Outer::out_channel(lane, i)) * tiling.out_stride() + first_in) / kPackSize<T>;
#pragma unroll
          for (unsigned e = 0; e < kLaneIn; e += kPackSize<T>) {
            Packed<T>& pack = out_row[Outer::in_channel(lane, e) / kPackSize<T>];
            Packed<T> value = s == 0 ? Packed<T>{} : pack;
#pragma unroll
            for (unsigned v = 0; v < kPackSize<T>; ++v) value.item[v] += sums[i][e + v];
            pack = value;
          }
        }
      }
      __syncthreads();
    }
    const T* const out_tile = reinterpret_cast<const T*>(memory);
    const unsigned shift = log2_of(tiling.width_in);
    for (unsigned i = threadIdx.x; i < tiling.width_out * tiling.width_in; i += blockDim.x) {
      const unsigned row = i >> shift, column = i & (tiling.width_in - 1);
      const int64_t out = int64_t{chunk_tile.tile_out} * tiling.width_out + row;
      const int64_t in = int64_t{chunk_tile.tile_in} * tiling.width_in + column;
      if (out >= args.sizes.channels_out || in >= args.sizes.channels_in) continue;
      args.partial[(chunk_tile.chunk * args.sizes.channels_out + out) * args.sizes.channels_in + in] =
          out_tile[row * tiling.out_stride() + column];
    }
    __syncthreads();  // before the next tile's rows
  }
}

constexpr unsigned kSlices = 8;

// out[i] = the sum of partial[chunk][i], first over every eighth chunk, then over the eight.
template <typename T>
__global__ void __launch_bounds__(32 * kSlices) sum_chunks(const T* partial, T* out, int64_t size, int64_t num_chunks) {
  using Row = T[32];
  DTNN_SHARED_ARRAY(Row, sums, kSlices);
  const unsigned lane = threadIdx.x % 32, slice = threadIdx.x / 32;
  for (int64_t first = int64_t{blockIdx.x} * 32; first < size; first += int64_t{gridDim.x} * 32) {
    T sum = 0;
    if (first + lane < size) {
#pragma unroll 8
      for (int64_t chunk = slice; chunk < num_chunks; chunk += kSlices) sum += partial[chunk * size + first + lane];
    }
    sums[slice][lane] = sum;
    __syncthreads();
    if (slice == 0 && first + lane < size) {
#pragma unroll
      for (unsigned s = 1; s < kSlices; ++s) sum += sums[s][lane];
      out[first + lane] = sum;
    }
    __syncthreads();
  }
}

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

unsigned power_of_two_from(int64_t value, unsigned most) {
  unsigned power = 1;
  while (power < value && power < most) power *= 2;
  return power;
}

// False when there are too many tiles.
template <typename T>
bool tile_weight_grad(const Rank2Rows<T>& total, const Rank2Sizes& sizes, unsigned out_blocks,
                      WeightGradTiling& tiling) {
  tiling.warps_out = power_of_two_from(divide_up(sizes.channels_out, 32 * out_blocks), 2);
  tiling.warps_in = power_of_two_from(divide_up(sizes.channels_in, 32), 4);
  tiling.row_splits = kWarps / (tiling.warps_out * tiling.warps_in);
  tiling.width_out = tiling.warps_out * 32 * out_blocks;
  tiling.width_in = tiling.warps_in * 32;
  const auto stage_bytes = [&](unsigned rows) {
    tiling.rows = rows;
    return size_t{StageLayout(tiling, total, sizes.components).end} * kPackBytes;
  };
  while (tiling.row_splits > 1 && stage_bytes(kOuterRows * tiling.row_splits) > kMaxStageBytes / 2) {
    tiling.row_splits /= 2;
  }
  unsigned rows = kOuterRows * tiling.row_splits;
  while (stage_bytes(2 * rows) <= kStageBytes) rows *= 2;
  tiling.rows = rows;
  const int64_t num_rows = sizes.num_atoms * sizes.components;
  tiling.chunk_rows = divide_up(divide_up(num_rows, rank2_weight_grad_partials(sizes)), rows) * rows;
  tiling.num_chunks = static_cast<unsigned>(divide_up(num_rows, tiling.chunk_rows));
  const int64_t tiles_out = divide_up(sizes.channels_out, tiling.width_out);
  const int64_t tiles_in = divide_up(sizes.channels_in, tiling.width_in);
  if (tiles_out > kMaxTiles / tiles_in / tiling.num_chunks) return false;
  tiling.tiles_out = static_cast<unsigned>(tiles_out);
  tiling.tiles_in = static_cast<unsigned>(tiles_in);
  tiling.num_tiles = tiling.num_chunks * tiling.tiles_out * tiling.tiles_in;
  return true;
}

template <typename Outer, typename T>
const char* launch_sum(const Rank2WeightGradArgs<T>& args, void* stream) {
  const Rank2Sizes& sizes = args.sizes;
  const Rank2Rows<T>& total = args.total;
  WeightGradTiling tiling;
  if (!tile_weight_grad(total, sizes, Outer::out_blocks, tiling)) return kTooManyTiles;
  const int64_t num_rows = sizes.num_atoms * sizes.components;
  T* const partial = tiling.num_chunks == 1 ? args.grad_weight : args.partial;
  const WeightGradInputs<T> inputs{total,
                                   Input<T>(total.rows, num_rows, sizes.channels_out),
                                   Input<T>(total.mixed, num_rows, sizes.channels_out),
                                   Input<T>(total.invariant, sizes.num_atoms, sizes.channels_out),
                                   Input<T>(total.norm, sizes.num_atoms, sizes.channels_out),
                                   Input<T>(args.x, num_rows, sizes.channels_in),
                                   partial,
                                   sizes,
                                   tiling};
  const size_t stages = 2 * size_t{StageLayout(tiling, total, sizes.components).end} * kPackBytes;
  const size_t tile = size_t{tiling.width_out} * tiling.out_stride() * sizeof(T);
  const int bytes = static_cast<int>(stages > tile ? stages : tile);
  auto* const kernel = sum_outer_products<Outer>;
  allow_shared_bytes<sum_outer_products<Outer>>(bytes);
  DTNN_LAUNCH(kernel, grid_size(tiling.num_tiles), tiling.threads(), bytes, stream, inputs);
  if (tiling.num_chunks == 1) return launch_error();
  if (const char* const error = launch_error()) return error;
  const int64_t size = sizes.channels_out * sizes.channels_in;
  DTNN_LAUNCH(sum_chunks<T>, grid_size(divide_up(size, 32)), 32 * kSlices, 0, stream, partial, args.grad_weight, size,
              int64_t{tiling.num_chunks});
  return launch_error();
}

template <int out_blocks>
const char* launch_sum_as(const Rank2WeightGradArgs<float>& args, void* stream) {
  switch (args.precision) {
    case Precision::kTf32:
      return launch_sum<OuterTensorCores<Precision::kTf32, out_blocks>>(args, stream);
    case Precision::kBfloat16:  // with two blocks it would not fit into the registers
      return launch_sum<OuterTensorCores<Precision::kBfloat16, 1>>(args, stream);
    default:
      return launch_sum<OuterMultiplyAdd<float, out_blocks>>(args, stream);
  }
}

}  // namespace

int64_t rank2_weight_grad_partials(const Rank2Sizes& sizes) {
  const int64_t chunks = divide_up(sizes.num_atoms * sizes.components, kMinChunkRows);
  return chunks < 1 ? 1 : chunks < kMaxChunks ? chunks : kMaxChunks;
}

template <typename T>
const char* launch_rank2_weight_grad(const Rank2WeightGradArgs<T>& args, void* stream) {
  const Rank2Sizes& sizes = args.sizes;
  const int64_t size = sizes.channels_out * sizes.channels_in;
  if (size == 0) return nullptr;
  if (sizes.num_atoms == 0) {
    cudaMemsetAsync(args.grad_weight, 0, static_cast<size_t>(size) * sizeof(T), static_cast<cudaStream_t>(stream));
    return launch_error();
  }
  if constexpr (sizeof(T) == sizeof(float)) {
    return sizes.channels_out <= 32 ? launch_sum_as<1>(args, stream) : launch_sum_as<2>(args, stream);
  } else {
    return launch_sum<OuterMultiplyAdd<T, 1>>(args, stream);
  }
}

template const char* launch_rank2_weight_grad<float>(const Rank2WeightGradArgs<float>&, void*);
template const char* launch_rank2_weight_grad<double>(const Rank2WeightGradArgs<double>&, void*);

}  // namespace dtnn::cuda
