// SPDX-License-Identifier: MIT
// The forward of a chunk of bonds once more, then backwards through it: gradients of the perceptron's outputs, its two
// products, gradients of the features. Of a bond the atoms need g_d, g_m and the gradients of both ends' products
// alone: 8 numbers for each channel instead of 18.
#include "message_grads.h"

namespace dtnn::cuda {
namespace {

// The sum over the lanes of a warp, in each lane.
template <typename T>
__device__ __forceinline__ T sum_of_lanes(T value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}
template <typename T>
__device__ __forceinline__ Vector<T> sum_of_lanes(const Vector<T>& v) {
  return {sum_of_lanes(v.x), sum_of_lanes(v.y), sum_of_lanes(v.z)};
}

// The gradient of t as a symmetric matrix: components off the diagonal count twice in it.
template <typename T>
__device__ __forceinline__ Symmetric<T> as_matrix(Symmetric<T> gradient) {
  gradient.yz *= T(0.5);
  gradient.xz *= T(0.5);
  gradient.xy *= T(0.5);
  return gradient;
}

// How often a bond counts at both ends; NaN where its atoms are out of range.
template <typename T>
struct Counts {
  T center, neighbor;

  template <bool turned>
  __device__ __forceinline__ static Counts of(const MessageArgs<T>& args, const Ends& ends, int64_t bond) {
    const T spoiled = ends.good ? T(0) : not_a_number<T>();
    return {count_of<T, turned>(args, 0, bond) + spoiled, count_of<T, turned>(args, 1, bond) + spoiled};
  }
};

// Gradients of the perceptron's outputs, g_out [rows, O], and those parts of the gradients of the bonds that do not
// pass through the perceptron. A warp for each bond.
template <typename T, bool turned>
__global__ void __launch_bounds__(kMessageThreads)
    fill_output_grads(MessageArgs<T> args, MessageResultGrads<T> result_grads, MessageInputGrads<T> grads, const T* out,
                      T* g_out, int64_t first_bond, int64_t rows) {
  const MessageSizes& sizes = args.sizes;
  const unsigned lane = threadIdx.x % 32;
  const unsigned scalars = static_cast<unsigned>(sizes.scalars), v = static_cast<unsigned>(sizes.vectors);
  for (int64_t row = int64_t{blockIdx.x} * kMessageWarps + threadIdx.x / 32; row < rows;
       row += int64_t{gridDim.x} * kMessageWarps) {
    const int64_t bond = first_bond + row;
    const T* const raw = out + row * sizes.outputs;
    T* const to = g_out + row * sizes.outputs;
    Ends ends(args.pairs, sizes, bond);
    const Counts<T> counts = Counts<T>::template of<turned>(args, ends, bond);
    if (!ends.good) ends.center = ends.neighbor = 0;
    const T envelope = ends.good ? args.envelope[bond] : not_a_number<T>();
    T g_envelope = 0;
#pragma unroll 4
    for (unsigned c = lane; c < scalars; c += 32) {
      T g = result_grads.scalar == nullptr ? T(0) : result_grads.scalar[bond * scalars + c];
      if (result_grads.sum_scalar != nullptr) {
        g += counts.center * result_grads.sum_scalar[ends.center * scalars + c] +
             counts.neighbor * result_grads.sum_scalar[ends.neighbor * scalars + c];
      }
      to[c] = envelope * g;
      grads.bond_scalar[bond * scalars + c] = g;
      g_envelope += g * (raw[c] + args.out_bias[c]);
    }
    const Vector<T> u = direction_of(args, bond);
    const Rotation<T, turned> rotation(args.turn, bond, false);
    Vector<T> g_u{};
    for (unsigned c = lane; c < v; c += 32) {
      Vector<T> g_vector{};
      if (result_grads.vector != nullptr) g_vector = load_vector(result_grads.vector, bond, v, c);
      if (result_grads.sum_vector != nullptr) {
        add_scaled(g_vector, counts.center, load_vector(result_grads.sum_vector, ends.center, v, c));
        add_scaled(g_vector, -counts.neighbor, rotation(load_vector(result_grads.sum_vector, ends.neighbor, v, c)));
      }
      Symmetric<T> s{};
      if (result_grads.sum_rank2 != nullptr) {
        add_scaled(s, counts.center, as_matrix(load_symmetric(result_grads.sum_rank2, ends.center, v, c)));
        add_scaled(s, counts.neighbor,
                   rotation(as_matrix(load_symmetric(result_grads.sum_rank2, ends.neighbor, v, c))));
      }
      const Outputs5<T> outputs(args, raw, c);
      const T(&o)[5] = outputs.y;
      const EndValues<T, turned> at(args, ends, rotation, c);
      const Vector<T> d = at.difference(), m = product(at.tau_sum(), u);
      Vector<T> b = load_vector(args.bond_vector, bond, v, c);
      add_scaled(b, envelope * o[0], u);
      add_scaled(b, envelope * o[1], d);
      add_scaled(b, envelope * o[2], m);
      // t = sym(u (x) w): g_w = S u, g_u = S w.
      const Vector<T> g_w = product(s, u);
      Vector<T> g = g_vector;
      add_scaled(g, envelope * o[4], g_w);
      const T g_y[5] = {dot(g, u), dot(g, d), dot(g, m), dot(g_w, u), dot(g_w, b)};
#pragma unroll
      for (int k = 0; k < 5; ++k) {
        to[scalars + k * v + c] = envelope * g_y[k];
        g_envelope += g_y[k] * o[k];
      }
      store(grads.bond_vector, bond, v, c, g);
      if (!grads.need_geometry) continue;
      Vector<T> w{};
      add_scaled(w, envelope * o[3], u);
      add_scaled(w, envelope * o[4], b);
      add_scaled(g_u, envelope * o[0], g);
      add_scaled(g_u, envelope * o[3], g_w);
      add_scaled(g_u, T(1), product(s, w));
    }
    if (!grads.need_geometry) continue;
    g_u = sum_of_lanes(g_u);
    g_envelope = sum_of_lanes(g_envelope);
    if (lane == 0) {
      grads.envelope[bond] = g_envelope;
      store(grads.direction, bond, 1, 0, g_u);  // so far
    }
  }
}

// The gradient before silu: the product's sums times the slope.
template <typename T>
struct SlopeEpilogue {
  static constexpr bool rows_are_given = true;
  Output<T> out;
  const T* slope;
  bool slope_packed;

  template <int lane_packs>
  __device__ void finish(const Packed<T> (&sums)[kLaneRows][lane_packs], int64_t row, int64_t, const Rank2Sizes& sizes,
                         int64_t column) const {
#pragma unroll
    for (int p = 0; p < lane_packs; ++p) {
      const int64_t first = column + p * 4 * kPackSize<T>;
      if (first >= out.width) continue;
#pragma unroll
      for (unsigned i = 0; i < kLaneRows; ++i) {
        // Beyond the last row it is loaded again: without a branch the loads do not wait for each other.
        const int64_t last = sizes.num_atoms - 1;
        Packed<T> value = load_pack(slope, out.width, slope_packed, row + i < last ? row + i : last, first);
#pragma unroll
        for (int k = 0; k < kPackSize<T>; ++k) value.item[k] *= sums[i][p].item[k];
        if (row + i < sizes.num_atoms) store_pack(out, row + i, first, value);
      }
    }
  }
};

// The rest of the gradients of the bonds, from those of the features [rows, F].
template <typename T, bool turned>
__global__ void __launch_bounds__(kMessageThreads)
    fill_feature_grads(MessageArgs<T> args, MessageInputGrads<T> grads, const T* out, const T* g_features, T* terms,
                       int64_t first_bond, int64_t rows) {
  const MessageSizes& sizes = args.sizes;
  const unsigned lane = threadIdx.x % 32;
  const unsigned scalars = static_cast<unsigned>(sizes.scalars), v = static_cast<unsigned>(sizes.vectors);
  const unsigned radial = static_cast<unsigned>(sizes.radial);
  for (int64_t row = int64_t{blockIdx.x} * kMessageWarps + threadIdx.x / 32; row < rows;
       row += int64_t{gridDim.x} * kMessageWarps) {
    const int64_t bond = first_bond + row;
    const T* const raw = out + row * sizes.outputs;
    const T* const from = g_features + row * sizes.features;
    Ends ends(args.pairs, sizes, bond);
    const T envelope = ends.good ? args.envelope[bond] : not_a_number<T>();
    if (!ends.good) ends.center = ends.neighbor = 0;
#pragma unroll 4
    for (unsigned c = lane; c < scalars; c += 32) grads.bond_scalar[bond * scalars + c] += from[c];
    const Vector<T> u = direction_of(args, bond);
    const Rotation<T, turned> rotation(args.turn, bond, false);
    Vector<T> g_u{};
    for (unsigned c = lane; c < v; c += 32) {
      const T* const g = from + scalars + c;
      const T g1 = g[0], g2 = g[v], g3 = g[2 * v], g4 = g[3 * v], g5 = g[4 * v];
      const Outputs5<T> outputs(args, raw, c);
      Vector<T> g_b = load_vector(grads.bond_vector, bond, v, c), g_d{}, g_m{};
      add_scaled(g_d, envelope * outputs.y[1], g_b);
      add_scaled(g_d, g1, u);
      add_scaled(g_m, envelope * outputs.y[2], g_b);
      add_scaled(g_m, g3, u);
      add_scaled(g_b, g5, u);
      store(grads.bond_vector, bond, v, c, g_b);
      T* const to = terms + bond * kBondTerms * v + c;
      const T values[kBondTerms] = {g_d.x, g_d.y, g_d.z, g_m.x, g_m.y, g_m.z, g2, g4};
#pragma unroll
      for (int k = 0; k < kBondTerms; ++k) to[k * v] = values[k];
      if (!grads.need_geometry) continue;
      // From u . d, from u . m (u itself), through m, and from u . b.
      const EndValues<T, turned> at(args, ends, rotation, c);
      const Symmetric<T> sum = at.tau_sum();
      add_scaled(g_u, g1, at.difference());
      add_scaled(g_u, g3, product(sum, u));
      add_scaled(g_u, T(1), product(sum, g_m));
      add_scaled(g_u, g5, load_vector(args.bond_vector, bond, v, c));
    }
    if (!grads.need_geometry) continue;
    for (unsigned c = lane; c < radial; c += 32) grads.radial[bond * radial + c] = from[scalars + 5 * v + c];
    g_u = sum_of_lanes(g_u);
    if (lane == 0) {
      add_scaled(g_u, T(1), load_vector(grads.direction, bond, 1, 0));
      store(grads.direction, bond, 1, 0, g_u);
    }
  }
}

}  // namespace

template <typename T>
const char* launch_message_grads(const MessageArgs<T>& args, const MessageResultGrads<T>& result_grads,
                                 const MessageInputGrads<T>& grads, const ChunkMemory<T>& memory, T* terms, T* g_pre,
                                 int64_t first, int64_t rows, void* stream) {
  const MessageSizes& sizes = args.sizes;
  const bool turned = args.turn != nullptr;
  const unsigned blocks = grid_size((rows + kMessageWarps - 1) / kMessageWarps);
  const char* error = launch_hidden(args, first, rows, memory.features, memory.hidden, memory.slope, stream);
  if (error != nullptr) return error;
  const Rank2Weight<T> out_weight{args.out_weight, 1, sizes.hidden};
  error =
      launch_plain_product<T>(args, memory.hidden, out_weight, memory.out, rows, sizes.hidden, sizes.outputs, stream);
  if (error != nullptr) return error;
  auto* const output_grads = turned ? fill_output_grads<T, true> : fill_output_grads<T, false>;
  DTNN_LAUNCH(output_grads, blocks, kMessageThreads, 0, stream, args, result_grads, grads, memory.out, memory.g_out,
              first, rows);
  error = launch_error();
  if (error != nullptr) return error;
  if (sizes.hidden > 0) {
    Rank2Rows<T> given{};
    given.origin = Rank2Rows<T>::kGiven;
    given.rows = memory.g_out;
    const SlopeEpilogue<T> epilogue{Output<T>(g_pre, sizes.hidden), memory.slope,
                                    can_pack<T>(sizes.hidden, memory.slope, memory.slope)};
    error = launch_product_as(args.precision, given, Rank2Weight<T>{args.out_weight, sizes.hidden, 1},
                              Rank2Sizes{rows, 1, sizes.outputs, sizes.hidden}, epilogue, stream);
    if (error != nullptr) return error;
  }
  const Rank2Weight<T> hidden_weight{args.hidden_weight, sizes.features, 1};
  error = launch_plain_product<T>(args, g_pre, hidden_weight, memory.g_features, rows, sizes.hidden, sizes.features,
                                  stream);
  if (error != nullptr) return error;
  auto* const feature_grads = turned ? fill_feature_grads<T, true> : fill_feature_grads<T, false>;
  DTNN_LAUNCH(feature_grads, blocks, kMessageThreads, 0, stream, args, grads, memory.out, memory.g_features, terms,
              first, rows);
  return launch_error();
}

#define DTNN_MESSAGE_GRADS(T)                                                                                       \
  template const char* launch_message_grads<T>(const MessageArgs<T>&, const MessageResultGrads<T>&,                 \
                                               const MessageInputGrads<T>&, const ChunkMemory<T>&, T*, T*, int64_t, \
                                               int64_t, void*);
DTNN_MESSAGE_GRADS(float)
DTNN_MESSAGE_GRADS(double)

}  // namespace dtnn::cuda
