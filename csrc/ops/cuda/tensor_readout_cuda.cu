// SPDX-License-Identifier: MIT
#include "crystals.h"
#include "payload.h"
#include "rounded.h"
#include "segment_sums.h"
#include "tensor_readout.h"

namespace dtnn::cuda {
namespace {

const char* const kTexts[] = {DTNN_PTR_TEXTS};

// A crystal of the readout must have atoms: it has no mean otherwise.
__device__ __forceinline__ bool check_crystal(const Crystals& crystals, int64_t crystal, BadIndex& bad) {
  if (!crystals.check(crystal, bad)) return false;
  if (crystals.begin(crystal) != crystals.begin(crystal + 1)) return true;
  bad.see(kPtrEmpty, crystal, 0);
  return false;
}

// The sum goes over atoms and channels in the same way, so an item is a unit of an atom, and no tensor of a single atom
// is formed.
template <typename T, int W>
struct AtomTensors {
  static constexpr int kNumbers = 6;
  static constexpr int kBlocksPerSm = 1;
  const Pack<T, W>* scalar;
  const Pack<T, W>* vector;
  const Pack<T, W>* rank2;
  T* epsilon;
  Crystals crystals;
  unsigned units_per_row;
  Divisor to_row;  // by units_per_row
  int64_t num_rows;
  int64_t num_segments;
  unsigned rows_per_tile;
  ErrorSink errors;

  __device__ __forceinline__ Segment segment_of(int64_t atom) const {
    const int64_t crystal = crystals.find(atom, 0, num_segments);
    if (!crystals.owns(crystal, atom)) return {-1, atom, atom + 1};
    return {crystal, crystals.begin(crystal), crystals.begin(crystal + 1)};
  }

  __device__ __forceinline__ bool segment(int64_t index, Segment& segment, BadIndex& bad) const {
    segment = {index, crystals.begin(index), crystals.begin(index + 1)};
    return check_crystal(crystals, index, bad);
  }

  __device__ __forceinline__ unsigned items(unsigned atoms) const { return atoms * units_per_row; }

  __device__ __forceinline__ void add(const Segment&, int64_t first, unsigned item, bool counts, double (&sums)[6],
                                      BadIndex&) const {
    const unsigned row = to_row.quotient(item);
    const int64_t atom = first + row;
    const unsigned unit = item - row * units_per_row;
    const int64_t units = units_per_row;
    const Pack<T, W> s = scalar[atom * units + unit];
    Pack<T, W> v[3], t[6];
#pragma unroll
    for (int k = 0; k < 3; ++k) v[k] = vector[(3 * atom + k) * units + unit];
#pragma unroll
    for (int k = 0; k < 6; ++k) t[k] = rank2[(6 * atom + k) * units + unit];
    __syncwarp();  // ptxas would begin to add, and to wait, before all ten are loaded
    T unit_sums[6] = {};
#pragma unroll
    for (int w = 0; w < W; ++w) {
      const T x = v[0].item[w], y = v[1].item[w], z = v[2].item[w];
      const T products[6] = {x * x + s.item[w], y * y + s.item[w], z * z + s.item[w], y * z, x * z, x * y};
#pragma unroll
      for (int k = 0; k < 6; ++k) unit_sums[k] += products[k] + t[k].item[w];
    }
#pragma unroll
    for (int k = 0; k < 6; ++k) sums[k] += counts ? static_cast<double>(unit_sums[k]) : 0.0;
  }

  // What is wrong with ptr is reported for each crystal.
  __device__ __forceinline__ void orphan(int64_t, BadIndex&) const {}

  __device__ __forceinline__ void finish(int64_t crystal, const double (&sums)[6]) const {
    const double count = static_cast<double>(crystals.begin(crystal + 1) - crystals.begin(crystal));
    T mean[6];
#pragma unroll
    for (int k = 0; k < 6; ++k) mean[k] = static_cast<T>(sums[k] / count);
    const T full[9] = {mean[0], mean[5], mean[4], mean[5], mean[1], mean[3], mean[4], mean[3], mean[2]};
#pragma unroll
    for (int k = 0; k < 9; ++k) epsilon[9 * crystal + k] = full[k];
  }

  __device__ __forceinline__ void fail(int64_t crystal) const {
#pragma unroll
    for (int k = 0; k < 9; ++k) epsilon[9 * crystal + k] = not_a_number<T>();
  }
};

// (G + G^T) and trace G of an atom's crystal, divided as on the CPU; NaN for an atom that no crystal owns.
template <typename T>
struct AtomGrads {
  T trace, xx, yy, zz, yz, xz, xy;

  __device__ __forceinline__ AtomGrads(const T* grad, const Crystals& crystals, int64_t atom) {
    const int64_t crystal = crystals.find(atom, 0, crystals.num_crystals);
    if (!crystals.owns(crystal, atom)) {
      trace = xx = yy = zz = yz = xz = xy = not_a_number<T>();
      return;
    }
    const T* const g = grad + 9 * crystal;
    const T count = static_cast<T>(crystals.begin(crystal + 1) - crystals.begin(crystal));
    trace = ((g[0] + g[4]) + g[8]) / count;
    xx = g[0] / count;
    yy = g[4] / count;
    zz = g[8] / count;
    yz = (g[5] + g[7]) / count;
    xz = (g[2] + g[6]) / count;
    xy = (g[1] + g[3]) / count;
  }
};

template <typename T>
__device__ __forceinline__ T dot(T a, T x, T b, T y, T c, T z) {
  return plus(plus(times(a, x), times(b, y)), times(c, z));
}

constexpr int kGradBlocksPerSm = 4;  // left alone, ptxas spills to fit more into the registers

template <typename T, int W>
__device__ __forceinline__ void fill_atom(const TensorReadoutBackwardArgs<T>& args, const Crystals& crystals,
                                          int64_t units, int64_t atom, int64_t unit) {
  using Unit = Pack<T, W>;
  const Unit* const vectors = reinterpret_cast<const Unit*>(args.atom_vector);
  Unit* const scalar = reinterpret_cast<Unit*>(args.grad_scalar);
  Unit* const vector = reinterpret_cast<Unit*>(args.grad_vector);
  Unit* const rank2 = reinterpret_cast<Unit*>(args.grad_rank2);
  Unit v[3];
#pragma unroll
  for (int k = 0; k < 3; ++k) v[k] = vectors[(3 * atom + k) * units + unit];
  const AtomGrads<T> g(args.grad, crystals, atom);
  Unit filled;
  fill(filled, g.trace);
  scalar[atom * units + unit] = filled;
  const T components[6] = {g.xx, g.yy, g.zz, g.yz, g.xz, g.xy};
#pragma unroll
  for (int k = 0; k < 6; ++k) {
    fill(filled, components[k]);
    rank2[(6 * atom + k) * units + unit] = filled;
  }
  Unit out[3];
#pragma unroll
  for (int w = 0; w < W; ++w) {
    const T x = v[0].item[w], y = v[1].item[w], z = v[2].item[w];
    out[0].item[w] = dot(2 * g.xx, x, g.xy, y, g.xz, z);
    out[1].item[w] = dot(g.xy, x, 2 * g.yy, y, g.yz, z);
    out[2].item[w] = dot(g.xz, x, g.yz, y, 2 * g.zz, z);
  }
#pragma unroll
  for (int k = 0; k < 3; ++k) vector[(3 * atom + k) * units + unit] = out[k];
}

template <typename T, int W>
__global__ void __launch_bounds__(kMaxThreads, kGradBlocksPerSm)
    fill_grads(TensorReadoutBackwardArgs<T> args, Crystals crystals, RowTiling tiling) {
  BadIndex bad;
  const int64_t stride = int64_t{gridDim.x} * tiling.rows_per_block;
  for (int64_t first = int64_t{blockIdx.x} * tiling.rows_per_block; first < args.num_atoms; first += stride) {
    const int64_t rows_left = args.num_atoms - first;
    const unsigned rows = rows_left < tiling.rows_per_block ? static_cast<unsigned>(rows_left) : tiling.rows_per_block;
    const unsigned units = rows * tiling.units_per_row;
    for (unsigned unit = threadIdx.x; unit < units; unit += blockDim.x) {
      const unsigned row = tiling.to_row.quotient(unit);
      fill_atom<T, W>(args, crystals, tiling.units_per_row, first + row, unit - row * tiling.units_per_row);
    }
  }
  const int64_t thread = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (int64_t crystal = thread; crystal < crystals.num_crystals; crystal += int64_t{gridDim.x} * blockDim.x) {
    check_crystal(crystals, crystal, bad);
  }
  bad.report(args.errors);
}

// Few items of many crystals go to the kernel without tiles. A crystal that holds most of the items is then the work of
// one block, 100 us or so at these limits.
constexpr int64_t kMostDirectItems = int64_t{1} << 16;
constexpr int64_t kMeanDirectItems = 256;
constexpr int64_t kWantedTiles = 8 * 132;  // two blocks for each multiprocessor of an H100

// Four items of a lane, so that the sum over lanes is little beside them, but tiles enough: a warp that finishes many
// crystals one after the other takes longer than all the others together. From the shape alone, so bits are too.
int64_t atoms_per_tile(int64_t num_atoms, int64_t channels) {
  int64_t atoms = channels <= 4 ? 128 : channels < 512 ? 512 / channels : 1;
  while (atoms > 1 && atoms * channels > 32 && num_atoms < atoms * kWantedTiles) atoms /= 2;
  return atoms;
}

template <typename T, int W>
const char* launch_sums(const TensorReadoutArgs<T>& args, void* stream) {
  AtomTensors<T, W> source;
  source.scalar = reinterpret_cast<const Pack<T, W>*>(args.atom_scalar);
  source.vector = reinterpret_cast<const Pack<T, W>*>(args.atom_vector);
  source.rank2 = reinterpret_cast<const Pack<T, W>*>(args.atom_rank2);
  source.epsilon = args.epsilon;
  source.crystals = {args.ptr, args.num_crystals, args.num_atoms};
  source.units_per_row = static_cast<unsigned>(args.channels / W);
  source.to_row = Divisor(args.channels > 0 ? source.units_per_row : 1);
  source.num_rows = args.num_atoms;
  source.num_segments = args.num_crystals;
  source.rows_per_tile = static_cast<unsigned>(atoms_per_tile(args.num_atoms, args.channels));
  source.errors = args.errors.with(kTexts, args.num_atoms, 0);
  const int64_t items = args.num_atoms * source.units_per_row;
  if (items <= kMostDirectItems && items <= kMeanDirectItems * args.num_crystals) {
    return launch_direct_segment_sums(source, stream);
  }
  // For crystals that a wrong ptr leaves out.
  cudaMemsetAsync(args.epsilon, 0xff, static_cast<size_t>(args.num_crystals) * 9 * sizeof(T),
                  static_cast<cudaStream_t>(stream));
  if (const char* const error = launch_error()) return error;
  return launch_segment_sums(source, args.workspace, stream);
}

template <typename T, int W>
const char* launch_grads(const TensorReadoutBackwardArgs<T>& arguments, void* stream) {
  TensorReadoutBackwardArgs<T> args = arguments;
  args.errors = arguments.errors.with(kTexts, args.num_atoms, 0);
  const Crystals crystals{args.ptr, args.num_crystals, args.num_atoms};
  // Without channels there is nothing to write, but ptr is checked all the same.
  const int64_t units_per_row = args.channels / W;
  RowTiling tiling = tile_rows(args.num_atoms, units_per_row > 0 ? units_per_row : 1, kMaxThreads);
  if (units_per_row == 0) tiling.units_per_row = 0;
  auto* const kernel = fill_grads<T, W>;
  DTNN_LAUNCH(kernel, grid_size(tiling.blocks > 0 ? tiling.blocks : 1), tiling.threads, 0, stream, args, crystals,
              tiling);
  return launch_error();
}

}  // namespace

int64_t tensor_readout_workspace(int64_t num_atoms, int64_t channels) {
  return count_tiles(num_atoms, atoms_per_tile(num_atoms, channels)) * static_cast<int64_t>(sizeof(TilePartials<6>));
}

template <typename T>
const char* launch_tensor_readout(const TensorReadoutArgs<T>& args, void* stream) {
  if (args.num_crystals == 0) return nullptr;
  if (args.channels > kMaxWidth) return kTooWide;
  const bool packs = can_pack<T>(args.channels, args.atom_scalar, args.atom_vector) &&
                     can_pack<T>(args.channels, args.atom_rank2, args.atom_rank2);
  return packs ? launch_sums<T, kPackBytes / sizeof(T)>(args, stream) : launch_sums<T, 1>(args, stream);
}

template <typename T>
const char* launch_tensor_readout_backward(const TensorReadoutBackwardArgs<T>& args, void* stream) {
  if (args.num_crystals == 0) return nullptr;
  if (args.channels > kMaxWidth) return kTooWide;
  const bool packs = can_pack<T>(args.channels, args.atom_vector, args.grad_vector) &&
                     can_pack<T>(args.channels, args.grad_scalar, args.grad_rank2);
  return packs ? launch_grads<T, kPackBytes / sizeof(T)>(args, stream) : launch_grads<T, 1>(args, stream);
}

template const char* launch_tensor_readout<float>(const TensorReadoutArgs<float>&, void*);
template const char* launch_tensor_readout<double>(const TensorReadoutArgs<double>&, void*);
template const char* launch_tensor_readout_backward<float>(const TensorReadoutBackwardArgs<float>&, void*);
template const char* launch_tensor_readout_backward<double>(const TensorReadoutBackwardArgs<double>&, void*);

}  // namespace dtnn::cuda
