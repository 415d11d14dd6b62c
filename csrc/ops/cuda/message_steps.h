// SPDX-License-Identifier: MIT
// What the kernels of bond_messages and its backward share: the values of one channel at both ends of a bond, and sums
// over the bonds of an atom. Names are those of ops/bond_messages.h.
#pragma once

#include "bond_messages.h"
#include "bond_rows.h"
#include "rank2_product.h"

namespace dtnn::cuda {

constexpr unsigned kMessageThreads = 256;
constexpr unsigned kMessageWarps = kMessageThreads / 32;
// Blocks that an SM is to run at a time: 64, 80 and 128 registers a thread. ptxas alone aims between, with spills.
template <typename T, bool turned>
constexpr unsigned kMessageBlocks = sizeof(T) == sizeof(double) ? 2
                                    : turned                    ? 3
                                                                : 4;

// Bonds between two products. An H100 multiplies 264 tiles of 96 rows at a time (rank2_tiling.h): one turn, whose
// features and hidden channels, 43 MB for the model's widths in float32, about fill its cache.
#ifdef DTNN_EMULATE_CUDA  // several chunks in the tests
constexpr int64_t kChunkBonds = 96;
#else
constexpr int64_t kChunkBonds = 264 * 96;
#endif
inline int64_t rows_of_chunk(int64_t num_bonds) { return num_bonds < kChunkBonds ? num_bonds : kChunkBonds; }

template <typename T>
struct Vector {
  T x, y, z;
};

// A symmetric matrix.
template <typename T>
struct Symmetric {
  T xx, yy, zz, yz, xz, xy;
};

template <typename T>
__device__ __forceinline__ T dot(const Vector<T>& a, const Vector<T>& b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}

template <typename T>
__device__ __forceinline__ Vector<T> product(const Symmetric<T>& s, const Vector<T>& v) {
  return {s.xx * v.x + s.xy * v.y + s.xz * v.z, s.xy * v.x + s.yy * v.y + s.yz * v.z,
          s.xz * v.x + s.yz * v.y + s.zz * v.z};
}

// sym(a (x) b)
template <typename T>
__device__ __forceinline__ Symmetric<T> symmetric_product(const Vector<T>& a, const Vector<T>& b) {
  return {a.x * b.x,
          a.y * b.y,
          a.z * b.z,
          T(0.5) * (a.y * b.z + a.z * b.y),
          T(0.5) * (a.x * b.z + a.z * b.x),
          T(0.5) * (a.x * b.y + a.y * b.x)};
}

template <typename T>
__device__ __forceinline__ void add_scaled(Vector<T>& sum, T factor, const Vector<T>& v) {
  sum.x += factor * v.x;
  sum.y += factor * v.y;
  sum.z += factor * v.z;
}

template <typename T>
__device__ __forceinline__ void add_scaled(Symmetric<T>& sum, T factor, const Symmetric<T>& s) {
  sum.xx += factor * s.xx;
  sum.yy += factor * s.yy;
  sum.zz += factor * s.zz;
  sum.yz += factor * s.yz;
  sum.xz += factor * s.xz;
  sum.xy += factor * s.xy;
}

// Channel `channel` of row `row` of an array [rows, 3 or 6, channels].
template <typename T>
__device__ __forceinline__ Vector<T> load_vector(const T* data, int64_t row, int64_t channels, unsigned channel) {
  const T* const from = data + row * 3 * channels + channel;
  return {from[0], from[channels], from[2 * channels]};
}
template <typename T>
__device__ __forceinline__ Symmetric<T> load_symmetric(const T* data, int64_t row, int64_t channels, unsigned channel) {
  const T* const from = data + row * 6 * channels + channel;
  return {from[0], from[channels], from[2 * channels], from[3 * channels], from[4 * channels], from[5 * channels]};
}
template <typename T>
__device__ __forceinline__ void store(T* data, int64_t row, int64_t channels, unsigned channel, const Vector<T>& v) {
  T* const to = data + row * 3 * channels + channel;
  to[0] = v.x;
  to[channels] = v.y;
  to[2 * channels] = v.z;
}
template <typename T>
__device__ __forceinline__ void store(T* data, int64_t row, int64_t channels, unsigned channel, const Symmetric<T>& s) {
  T* const to = data + row * 6 * channels + channel;
  to[0] = s.xx;
  to[channels] = s.yy;
  to[2 * channels] = s.zz;
  to[3 * channels] = s.yz;
  to[4 * channels] = s.xz;
  to[5 * channels] = s.xy;
}

template <typename T>
__device__ __forceinline__ Vector<T> direction_of(const MessageArgs<T>& args, int64_t bond) {
  const T* const u = args.direction + 3 * bond;
  return {u[0], u[1], u[2]};
}

// A rotation of rows a, b, c; `turned` false: none, and no memory is read.
template <typename T, bool turned>
struct Rotation {
  Vector<T> a, b, c;

  // The one of a bond, or its inverse.
  __device__ __forceinline__ Rotation(const T* turn, int64_t bond, bool inverse) {
    if (!turned) return;
    const T* const r = turn + 9 * bond;
    a = {r[0], r[1], r[2]};
    b = {r[3], r[4], r[5]};
    c = {r[6], r[7], r[8]};
    if (inverse) {
      const Vector<T> first{a.x, b.x, c.x}, second{a.y, b.y, c.y}, third{a.z, b.z, c.z};
      a = first;
      b = second;
      c = third;
    }
  }

  __device__ __forceinline__ Vector<T> operator()(const Vector<T>& v) const {
    if (!turned) return v;
    return {dot(a, v), dot(b, v), dot(c, v)};
  }
  // R s R^T
  __device__ __forceinline__ Symmetric<T> operator()(const Symmetric<T>& s) const {
    if (!turned) return s;
    const Vector<T> sa = product(s, a), sb = product(s, b), sc = product(s, c);
    return {dot(a, sa), dot(b, sb), dot(c, sc), dot(b, sc), dot(a, sc), dot(a, sb)};
  }
};

// The first scalars of a row, a part in each lane. They are loaded before, and written after, the loads of the channels
// that depend on indices: a store waits for its load, and all that follows for the store.
constexpr unsigned kFirstScalars = 4;
template <typename T>
__device__ __forceinline__ void load_first(T (&first)[kFirstScalars], const T* row, unsigned count, unsigned lane) {
#pragma unroll
  for (unsigned k = 0; k < kFirstScalars; ++k) first[k] = lane + 32 * k < count ? row[lane + 32 * k] : T(0);
}

// The atoms at both ends of a bond. Where one is out of range, `good` is false, and both are safe to read.
struct Ends {
  int64_t center, neighbor;
  bool good;

  __device__ __forceinline__ Ends(const int64_t* pairs, const MessageSizes& sizes, int64_t bond)
      : center(pairs[bond]), neighbor(pairs[sizes.num_bonds + bond]) {
    const uint64_t atoms = static_cast<uint64_t>(sizes.num_atoms);
    good = static_cast<uint64_t>(center) < atoms && static_cast<uint64_t>(neighbor) < atoms;
  }

  __device__ __forceinline__ void see(int64_t bond, const MessageSizes& sizes, BadIndex& bad) const {
    if (good) return;
    const uint64_t atoms = static_cast<uint64_t>(sizes.num_atoms);
    if (static_cast<uint64_t>(center) >= atoms) bad.see(kAtom, bond, center);
    if (static_cast<uint64_t>(neighbor) >= atoms) bad.see(kEndChecks + kAtom, bond, neighbor);
  }
};

// One channel of q and tau at both ends, the neighbor's as the bond sees it.
template <typename T, bool turned>
struct EndValues {
  Vector<T> q_center, q_neighbor;
  Symmetric<T> tau_center, tau_neighbor;

  __device__ __forceinline__ EndValues(const MessageArgs<T>& args, const Ends& ends,
                                       const Rotation<T, turned>& rotation, unsigned channel)
      : q_center(load_vector(args.q, ends.center, args.sizes.vectors, channel)),
        q_neighbor(load_vector(args.q, ends.neighbor, args.sizes.vectors, channel)),
        tau_center(load_symmetric(args.tau, ends.center, args.sizes.vectors, channel)),
        tau_neighbor(load_symmetric(args.tau, ends.neighbor, args.sizes.vectors, channel)) {
    q_neighbor = rotation(q_neighbor);
    tau_neighbor = rotation(tau_neighbor);
  }

  __device__ __forceinline__ Vector<T> difference() const {
    return {q_neighbor.x - q_center.x, q_neighbor.y - q_center.y, q_neighbor.z - q_center.z};
  }
  __device__ __forceinline__ Symmetric<T> tau_sum() const {
    Symmetric<T> sum = tau_center;
    add_scaled(sum, T(1), tau_neighbor);
    return sum;
  }
};

// The messages of one channel: the perceptron's outputs 1 to 5.
template <typename T>
struct Outputs5 {
  T y[5];

  __device__ __forceinline__ Outputs5(const MessageArgs<T>& args, const T* out, unsigned channel) {
    const int64_t v = args.sizes.vectors;
    const T* const from = out + args.sizes.scalars + channel;
    const T* const bias = args.out_bias + args.sizes.scalars + channel;
#pragma unroll
    for (int k = 0; k < 5; ++k) y[k] = from[k * v] + bias[k * v];
  }
};

// The message of sizes beyond 32-bit numbers, or nullptr.
inline const char* size_problem(const MessageSizes& sizes) {
  if (sizes.features > kMaxWidth || sizes.hidden > kMaxWidth) return "expected fewer than 2^31 channels";
  return sizes.num_atoms > kMaxWidth ? "expected fewer than 2^31 atoms" : nullptr;
}

// Features [rows, F] and hidden channels [rows, H] of the bonds first_bond.. of one chunk, and on request the slope of
// silu. `slope` may be null.
template <typename T>
const char* launch_hidden(const MessageArgs<T>& args, int64_t first_bond, int64_t rows, T* features, T* hidden,
                          T* slope, void* stream);

// The plain product rows [rows, in] times weight.
template <typename T>
const char* launch_plain_product(const MessageArgs<T>& args, const T* rows, const Rank2Weight<T>& weight, T* out,
                                 int64_t num_rows, int64_t in, int64_t width, void* stream) {
  Rank2Rows<T> given{};
  given.origin = Rank2Rows<T>::kGiven;
  given.rows = rows;
  const Rank2LinearArgs<T> product{given, weight, out, nullptr, 0, {num_rows, 1, in, width}, args.precision};
  return launch_rank2_linear(product, stream);
}

template <typename T>
__device__ __forceinline__ BondEnd center_end(const MessageArgs<T>& args) {
  return {args.pairs, nullptr, args.row_ptr, args.sizes.num_atoms, args.sizes.num_bonds, 0};
}
template <typename T>
__device__ __forceinline__ BondEnd neighbor_end(const MessageArgs<T>& args) {
  return {args.pairs + args.sizes.num_bonds,
          args.neighbor_order,
          args.neighbor_row_ptr,
          args.sizes.num_atoms,
          args.sizes.num_bonds,
          kEndChecks};
}

// An atom's sums over rows of bonds [E, width]: the work of one warp is 32 packs of one atom. A warp's number counts
// first those packs of rows, then the channels in groups of 32.
struct AtomWarps {
  int64_t row_packs;  // of a row
  unsigned row_warps, warps;
  bool packed;

  template <typename T>
  static AtomWarps of(int64_t width, int64_t channels, const T* from, const T* to) {
    AtomWarps result;
    result.packed = can_pack<T>(width, from, to);
    result.row_packs = result.packed ? width / kPackSize<T> : width;
    result.row_warps = static_cast<unsigned>((result.row_packs + 31) / 32);
    result.warps = result.row_warps + static_cast<unsigned>((channels + 31) / 32);
    return result;
  }
};

// The number of counts of a bond at an end of it.
template <typename T, bool turned>
__device__ __forceinline__ T count_of(const MessageArgs<T>& args, int side, int64_t bond) {
  return turned ? args.counts[side * args.sizes.num_bonds + bond] : T(1);
}

template <typename T, int W>
struct CountedPack {
  Pack<T, W> pack;
  T count;
};

// out[atom] = the sum of rows [E, packs] at both ends, for one pack of them; with `counted`, a row counts as often as
// the turns say.
template <int W, bool counted, typename T>
__device__ __forceinline__ void sum_row_packs(const MessageArgs<T>& args, const T* rows, T* out, int64_t packs,
                                              int64_t atom, int64_t column, BadIndex& bad) {
  using Unit = Pack<T, W>;
  constexpr int in_flight = 4;
  const Unit* const values = reinterpret_cast<const Unit*>(rows) + column;
  Unit sum{};
  bool good = true;
  const auto add = [&sum](const CountedPack<T, W>& value) { add_scaled(sum, value.count, value.pack); };
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    const auto load = [&](int64_t bond) {
      return CountedPack<T, W>{values[bond * packs], count_of<T, counted>(args, side, bond)};
    };
    good &= for_each_bond<in_flight>(side == 0 ? center_end(args) : neighbor_end(args), atom, bad, load, add);
  }
  if (!good) fill(sum, not_a_number<T>());
  reinterpret_cast<Unit*>(out)[atom * packs + column] = sum;
}

}  // namespace dtnn::cuda
