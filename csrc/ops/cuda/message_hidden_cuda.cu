// SPDX-License-Identifier: MIT
// The first half of bond_messages, for the forward and the backward: the features of the bonds, and their product with
// the weight of the hidden layer, whose epilogue adds what the atoms add.
#include "message_steps.h"

namespace dtnn::cuda {
namespace {

// Features [rows, F] of the bonds from first_bond on: a warp for each bond, whose lanes share the channels.
template <typename T, bool turned>
__global__ void __launch_bounds__(kMessageThreads, kMessageBlocks<T, turned>)
    fill_features(MessageArgs<T> args, T* features, int64_t first_bond, int64_t rows) {
  const MessageSizes& sizes = args.sizes;
  const unsigned lane = threadIdx.x % 32;
  const unsigned scalars = static_cast<unsigned>(sizes.scalars), v = static_cast<unsigned>(sizes.vectors);
  const unsigned radial = static_cast<unsigned>(sizes.radial);
  BadIndex bad;
  for (int64_t row = int64_t{blockIdx.x} * kMessageWarps + threadIdx.x / 32; row < rows;
       row += int64_t{gridDim.x} * kMessageWarps) {
    const int64_t bond = first_bond + row;
    T* const out = features + row * sizes.features;
    const T* const scalar = args.bond_scalar + bond * scalars;
    const Ends ends(args.pairs, sizes, bond);
    T first[kFirstScalars];
    load_first(first, scalar, scalars, lane);
    const T first_radial = lane < radial ? args.radial[bond * radial + lane] : T(0);
    const Vector<T> u = direction_of(args, bond);
    const Rotation<T, turned> rotation(args.turn, bond, false);
    if (!ends.good) {
      ends.see(bond, sizes, bad);
      for (unsigned c = lane; c < sizes.features; c += 32) out[c] = not_a_number<T>();
      continue;
    }
    for (unsigned c = lane; c < v; c += 32) {
      const EndValues<T, turned> at(args, ends, rotation, c);
      const Vector<T> b = load_vector(args.bond_vector, bond, v, c);
      const Vector<T> m = product(at.tau_sum(), u);
      const Symmetric<T>& s = at.tau_center;
      const Symmetric<T>& t = at.tau_neighbor;
      T* const to = out + scalars + c;
      to[0] = dot(u, at.difference());
      to[v] = dot(at.q_center, at.q_neighbor);
      to[2 * v] = dot(u, m);
      to[3 * v] = s.xx * t.xx + s.yy * t.yy + s.zz * t.zz + T(2) * (s.yz * t.yz + s.xz * t.xz + s.xy * t.xy);
      to[4 * v] = dot(u, b);
    }
#pragma unroll
    for (unsigned k = 0; k < kFirstScalars; ++k) {
      if (lane + 32 * k < scalars) out[lane + 32 * k] = first[k];
    }
    for (unsigned c = lane + 32 * kFirstScalars; c < scalars; c += 32) out[c] = scalar[c];
    T* const to_radial = out + scalars + 5 * v;
    if (lane < radial) to_radial[lane] = first_radial;
    for (unsigned c = lane + 32; c < radial; c += 32) to_radial[c] = args.radial[bond * radial + c];
  }
  bad.report(args.errors);
}

constexpr unsigned kNoAtom = 0xffffffffu;

// Hidden channels from the product of the features: silu(sum + bias + what both atoms add), and on request its slope.
template <typename T>
struct HiddenEpilogue {
  static constexpr bool rows_are_given = true;
  Output<T> hidden;
  Output<T> slope;
  const T* bias;
  const T* atom_hidden;
  bool atoms_packed;
  const int64_t* pairs;
  MessageSizes message_sizes;
  int64_t first_bond;

  template <int lane_packs>
  __device__ void finish(const Packed<T> (&sums)[kLaneRows][lane_packs], int64_t row, int64_t, const Rank2Sizes& sizes,
                         int64_t column) const {
    // The atoms of three rows, then their rows without a branch: loads do not wait for each other. Beyond the last bond
    // it is loaded again. Where an atom is out of range the features are NaN, and so are the sums.
    constexpr unsigned at_once = kLaneRows / 2;
#pragma unroll
    for (unsigned begin = 0; begin < kLaneRows; begin += at_once) {
      unsigned centers[at_once], neighbors[at_once];
#pragma unroll
      for (unsigned i = 0; i < at_once; ++i) {
        const int64_t last = sizes.num_atoms - 1, bond = row + begin + i;
        const Ends ends(pairs, message_sizes, first_bond + (bond < last ? bond : last));
        centers[i] = ends.good ? static_cast<unsigned>(ends.center) : kNoAtom;
        neighbors[i] = ends.good ? static_cast<unsigned>(ends.neighbor) : kNoAtom;
      }
#pragma unroll
      for (int p = 0; p < lane_packs; ++p) {
        const int64_t first = column + p * 4 * kPackSize<T>;
        if (first >= hidden.width) continue;
#pragma unroll
        for (unsigned i = 0; i < at_once; ++i) {
          const bool good = centers[i] != kNoAtom;
          Packed<T> x = sums[begin + i][p], change;
          add_scaled(x, T(1), load_pack(bias, hidden.width, atoms_packed, 0, first));
          add_scaled(x, T(1), load_pack(atom_hidden, hidden.width, atoms_packed, good ? centers[i] : 0, first));
          add_scaled(x, T(1), load_pack(atom_hidden, hidden.width, atoms_packed, good ? neighbors[i] : 0, first));
          if (row + begin + i >= sizes.num_atoms) continue;
#pragma unroll
          for (int k = 0; k < kPackSize<T>; ++k) {
            const T scale = sigmoid(x.item[k]);
            x.item[k] *= scale;
            change.item[k] = scale + x.item[k] * (1 - scale);
          }
          store_pack(hidden, row + begin + i, first, x);
          if (slope.data != nullptr) store_pack(slope, row + begin + i, first, change);
        }
      }
    }
  }
};

}  // namespace

template <typename T>
const char* launch_hidden(const MessageArgs<T>& args, int64_t first_bond, int64_t rows, T* features, T* hidden,
                          T* slope, void* stream) {
  const MessageSizes& sizes = args.sizes;
  const unsigned blocks = grid_size((rows + kMessageWarps - 1) / kMessageWarps);
  auto* const fill = args.turn == nullptr ? fill_features<T, false> : fill_features<T, true>;
  DTNN_LAUNCH(fill, blocks, kMessageThreads, 0, stream, args, features, first_bond, rows);
  if (const char* const error = launch_error()) return error;
  if (sizes.hidden == 0) return nullptr;
  Rank2Rows<T> given{};
  given.origin = Rank2Rows<T>::kGiven;
  given.rows = features;
  const Rank2Weight<T> weight{args.hidden_weight, 1, sizes.features};
  const HiddenEpilogue<T> epilogue{Output<T>(hidden, sizes.hidden),
                                   Output<T>(slope, sizes.hidden),
                                   args.hidden_bias,
                                   args.atom_hidden,
                                   can_pack<T>(sizes.hidden, args.atom_hidden, args.hidden_bias),
                                   args.pairs,
                                   sizes,
                                   first_bond};
  return launch_product_as(args.precision, given, weight, Rank2Sizes{rows, 1, sizes.features, sizes.hidden}, epilogue,
                           stream);
}

template const char* launch_hidden<float>(const MessageArgs<float>&, int64_t, int64_t, float*, float*, float*, void*);
template const char* launch_hidden<double>(const MessageArgs<double>&, int64_t, int64_t, double*, double*, double*,
                                           void*);

}  // namespace dtnn::cuda
