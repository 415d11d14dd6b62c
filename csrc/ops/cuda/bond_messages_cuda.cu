// SPDX-License-Identifier: MIT
// Four kernels for a chunk of bonds (features, hidden channels, the perceptron's outputs, new latents of the bonds),
// then one that sums at the atoms. What the sums need of a rank-2 message is y_4 and y_5 alone.
#include "message_steps.h"

namespace dtnn::cuda {
namespace {

// New latents of the bonds from first_bond on, and y_4, y_5 [E, 2, V], from the perceptron's outputs [rows, O]. A warp
// for each bond; d and m are computed again, since q and tau are in the cache.
template <typename T, bool turned>
__global__ void __launch_bounds__(kMessageThreads, kMessageBlocks<T, turned>)
    fill_new_bonds(MessageArgs<T> args, const T* out, T* new_scalar, T* new_vector, T* y45, int64_t first_bond,
                   int64_t rows) {
  const MessageSizes& sizes = args.sizes;
  const unsigned lane = threadIdx.x % 32;
  const unsigned scalars = static_cast<unsigned>(sizes.scalars), v = static_cast<unsigned>(sizes.vectors);
  for (int64_t row = int64_t{blockIdx.x} * kMessageWarps + threadIdx.x / 32; row < rows;
       row += int64_t{gridDim.x} * kMessageWarps) {
    const int64_t bond = first_bond + row;
    const T* const raw = out + row * sizes.outputs;
    Ends ends(args.pairs, sizes, bond);
    T envelope = args.envelope[bond];
    if (!ends.good) {
      envelope = not_a_number<T>();
      ends.center = ends.neighbor = 0;
    }
    const T* const scalar = args.bond_scalar + bond * scalars;
    T first[kFirstScalars], first_raw[kFirstScalars];
    load_first(first, scalar, scalars, lane);
    load_first(first_raw, raw, scalars, lane);
    const Vector<T> u = direction_of(args, bond);
    const Rotation<T, turned> rotation(args.turn, bond, false);
    for (unsigned c = lane; c < v; c += 32) {
      const Outputs5<T> outputs(args, raw, c);
      const EndValues<T, turned> at(args, ends, rotation, c);
      Vector<T> b = load_vector(args.bond_vector, bond, v, c);
      add_scaled(b, envelope * outputs.y[0], u);
      add_scaled(b, envelope * outputs.y[1], at.difference());
      add_scaled(b, envelope * outputs.y[2], product(at.tau_sum(), u));
      store(new_vector, bond, v, c, b);
      y45[bond * 2 * v + c] = envelope * outputs.y[3];
      y45[bond * 2 * v + v + c] = envelope * outputs.y[4];
    }
    T* const to = new_scalar + bond * scalars;
#pragma unroll
    for (unsigned k = 0; k < kFirstScalars; ++k) {
      const unsigned c = lane + 32 * k;
      if (c < scalars) to[c] = first[k] + envelope * (first_raw[k] + args.out_bias[c]);
    }
    for (unsigned c = lane + 32 * kFirstScalars; c < scalars; c += 32) {
      to[c] = scalar[c] + envelope * (raw[c] + args.out_bias[c]);
    }
  }
}

// What the sums need of one channel of a bond.
template <typename T>
struct MessageOfBond {
  Vector<T> u, vector;
  T y4, y5, count;
};

// A channel of the sums of vectors and rank-2 messages of an atom.
template <typename T, bool turned>
__device__ __forceinline__ void sum_channel(const MessageArgs<T>& args, const T* new_vector, const T* y45,
                                            const MessageResults<T>& results, int64_t atom, unsigned channel,
                                            BadIndex& bad) {
  constexpr int in_flight = sizeof(T) == sizeof(float) && !turned ? 4 : 2;
  const int64_t v = args.sizes.vectors;
  // A sum for each end: vectors cancel between the ends of bonds, exactly where both ends add the same ones.
  Vector<T> vectors[2]{};
  Symmetric<T> rank2{};
  bool good = true;
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    const auto load = [&](int64_t bond) {
      MessageOfBond<T> message{direction_of(args, bond), load_vector(new_vector, bond, v, channel),
                               y45[bond * 2 * v + channel], y45[(bond * 2 + 1) * v + channel],
                               count_of<T, turned>(args, side, bond)};
      if (turned && side == 1) {
        const Rotation<T, turned> back(args.turn, bond, true);
        message.u = back(message.u);
        message.vector = back(message.vector);
      }
      return message;
    };
    const auto add = [&](const MessageOfBond<T>& message) {
      Vector<T> w{message.y4 * message.u.x, message.y4 * message.u.y, message.y4 * message.u.z};
      add_scaled(w, message.y5, message.vector);
      add_scaled(vectors[side], message.count, message.vector);
      add_scaled(rank2, message.count, symmetric_product(message.u, w));
    };
    good &= for_each_bond<in_flight>(side == 0 ? center_end(args) : neighbor_end(args), atom, bad, load, add);
  }
  Vector<T> vector = vectors[0];
  add_scaled(vector, T(-1), vectors[1]);
  if (!good) {
    const T nan = not_a_number<T>();
    vector = {nan, nan, nan};
    rank2 = {nan, nan, nan, nan, nan, nan};
  }
  store(results.sum_vector, atom, v, channel, vector);
  store(results.sum_rank2, atom, v, channel, rank2);
}

template <typename T, int W, bool turned>
__global__ void __launch_bounds__(kMessageThreads)
    sum_messages(MessageArgs<T> args, const T* y45, MessageResults<T> results, AtomWarps layout) {
  const unsigned lane = threadIdx.x % 32;
  const int64_t num_warps = args.sizes.num_atoms * layout.warps;
  BadIndex bad;
  for (int64_t warp = int64_t{blockIdx.x} * kMessageWarps + threadIdx.x / 32; warp < num_warps;
       warp += int64_t{gridDim.x} * kMessageWarps) {
    const int64_t atom = warp / layout.warps;
    const unsigned part = static_cast<unsigned>(warp - atom * layout.warps);
    if (part < layout.row_warps) {
      const int64_t column = int64_t{part} * 32 + lane;
      if (column >= layout.row_packs) continue;
      sum_row_packs<W, turned>(args, results.scalar, results.sum_scalar, layout.row_packs, atom, column, bad);
    } else {
      const unsigned channel = (part - layout.row_warps) * 32 + lane;
      if (channel >= args.sizes.vectors) continue;
      sum_channel<T, turned>(args, results.vector, y45, results, atom, channel, bad);
    }
  }
  bad.report(args.errors);
}

}  // namespace

int64_t messages_workspace(const MessageSizes& sizes) {
  return rows_of_chunk(sizes.num_bonds) * (sizes.features + sizes.hidden) + sizes.num_bonds * 2 * sizes.vectors;
}

template <typename T>
const char* launch_bond_messages(const MessageArgs<T>& arguments, const MessageResults<T>& results, T* workspace,
                                 void* stream) {
  MessageArgs<T> args = arguments;
  const MessageSizes& sizes = args.sizes;
  if (const char* const problem = size_problem(sizes)) return problem;
  args.errors = arguments.errors.with(kEndTexts, sizes.num_atoms, sizes.num_bonds);
  const bool turned = args.turn != nullptr;
  const int64_t chunk = rows_of_chunk(sizes.num_bonds);
  T* const features = workspace;
  T* const hidden = features + chunk * sizes.features;
  T* const y45 = hidden + chunk * sizes.hidden;
  T* const out = features;  // which are not needed when these are written, and as wide at least
  for (int64_t first = 0; first < sizes.num_bonds; first += chunk) {
    const int64_t rows = sizes.num_bonds - first < chunk ? sizes.num_bonds - first : chunk;
    if (const char* const error = launch_hidden<T>(args, first, rows, features, hidden, nullptr, stream)) return error;
    const Rank2Weight<T> weight{args.out_weight, 1, sizes.hidden};
    if (const char* const error =
            launch_plain_product<T>(args, hidden, weight, out, rows, sizes.hidden, sizes.outputs, stream)) {
      return error;
    }
    auto* const kernel = turned ? fill_new_bonds<T, true> : fill_new_bonds<T, false>;
    DTNN_LAUNCH(kernel, grid_size((rows + kMessageWarps - 1) / kMessageWarps), kMessageThreads, 0, stream, args, out,
                results.scalar, results.vector, y45, first, rows);
    if (const char* const error = launch_error()) return error;
  }
  const AtomWarps layout = AtomWarps::of(sizes.scalars, sizes.vectors, results.scalar, results.sum_scalar);
  const int64_t warps = sizes.num_atoms * layout.warps;
  if (warps == 0) return nullptr;
  constexpr int W = kPackSize<T>;
  auto* kernel = turned ? sum_messages<T, 1, true> : sum_messages<T, 1, false>;
  if (layout.packed) kernel = turned ? sum_messages<T, W, true> : sum_messages<T, W, false>;
  DTNN_LAUNCH(kernel, grid_size((warps + kMessageWarps - 1) / kMessageWarps), kMessageThreads, 0, stream, args, y45,
              results, layout);
  return launch_error();
}

template const char* launch_bond_messages<float>(const MessageArgs<float>&, const MessageResults<float>&, float*,
                                                 void*);
template const char* launch_bond_messages<double>(const MessageArgs<double>&, const MessageResults<double>&, double*,
                                                  void*);

}  // namespace dtnn::cuda
