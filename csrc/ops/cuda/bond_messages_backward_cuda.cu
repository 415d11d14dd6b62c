// SPDX-License-Identifier: MIT
// The gradients of bond_messages: those of the bonds chunk by chunk (message_grads_cuda.cu), the weights' of each chunk
// and their sum, and last one kernel that sums at the atoms.
#include "message_grads.h"

namespace dtnn::cuda {
namespace {

// What one bond adds to the gradients of one channel of the atom at one end.
template <typename T>
struct EndGrad {
  Vector<T> q;
  Symmetric<T> tau;  // as a matrix
};

// From the bond's terms and the values at the other end, as the bond sees them.
template <typename T>
struct BondTerms {
  Vector<T> u, g_d, g_m, q;
  Symmetric<T> tau;
  T g2, g4;
};

// A channel of the gradients of q and tau of an atom.
template <typename T, bool turned>
__device__ __forceinline__ void sum_end_grads(const MessageArgs<T>& args, const T* terms,
                                              const MessageInputGrads<T>& grads, int64_t atom, unsigned channel,
                                              BadIndex& bad) {
  constexpr int in_flight = sizeof(T) == sizeof(float) && !turned ? 2 : 1;
  const int64_t v = args.sizes.vectors;
  // A sum for each end: g_d cancels between the ends of bonds, exactly where both ends add the same ones.
  Vector<T> q_sums[2]{};
  Symmetric<T> tau_sum{};
  bool good = true;
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    const auto load = [&](int64_t bond) {
      const Ends ends(args.pairs, args.sizes, bond);
      const int64_t other = !ends.good ? 0 : side == 0 ? ends.neighbor : ends.center;
      const T* const from = terms + bond * kBondTerms * v + channel;
      BondTerms<T> result{direction_of(args, bond),
                          {from[0], from[v], from[2 * v]},
                          {from[3 * v], from[4 * v], from[5 * v]},
                          load_vector(args.q, other, v, channel),
                          load_symmetric(args.tau, other, v, channel),
                          from[6 * v],
                          from[7 * v]};
      const Rotation<T, turned> rotation(args.turn, bond, side == 1);
      if (side == 0) {
        result.q = rotation(result.q);
        result.tau = rotation(result.tau);
      }
      EndGrad<T> grad{{}, symmetric_product(result.g_m, result.u)};
      add_scaled(grad.q, side == 0 ? T(-1) : T(1), result.g_d);
      add_scaled(grad.q, result.g2, result.q);
      add_scaled(grad.tau, result.g4, result.tau);
      if (side == 1) {
        grad.q = rotation(grad.q);
        grad.tau = rotation(grad.tau);
      }
      return grad;
    };
    const auto add = [&](const EndGrad<T>& grad) {
      add_scaled(q_sums[side], T(1), grad.q);
      add_scaled(tau_sum, T(1), grad.tau);
    };
    good &= for_each_bond<in_flight>(side == 0 ? center_end(args) : neighbor_end(args), atom, bad, load, add);
  }
  Vector<T> q_sum = q_sums[0];
  add_scaled(q_sum, T(1), q_sums[1]);
  if (!good) {
    const T nan = not_a_number<T>();
    q_sum = {nan, nan, nan};
    tau_sum = {nan, nan, nan, nan, nan, nan};
  }
  tau_sum.yz *= T(2);
  tau_sum.xz *= T(2);
  tau_sum.xy *= T(2);
  store(grads.q, atom, v, channel, q_sum);
  store(grads.tau, atom, v, channel, tau_sum);
}

template <typename T, int W, bool turned>
__global__ void __launch_bounds__(kMessageThreads)
    sum_grads(MessageArgs<T> args, const T* terms, const T* g_pre, MessageInputGrads<T> grads, AtomWarps layout) {
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
      sum_row_packs<W, false>(args, g_pre, grads.atom_hidden, layout.row_packs, atom, column, bad);
    } else {
      const unsigned channel = (part - layout.row_warps) * 32 + lane;
      if (channel >= args.sizes.vectors) continue;
      sum_end_grads<T, turned>(args, terms, grads, atom, channel, bad);
    }
  }
  bad.report(args.errors);
}

// Sums over rows of bonds, in groups that follow from the number of rows alone.
constexpr unsigned kGroups = 64;  // of a chunk

// partial [kGroups, H + O] = sums of the columns of g_pre [rows, H] and g_out [rows, O].
template <typename T>
__global__ void __launch_bounds__(128)
    sum_columns(const T* g_pre, const T* g_out, T* partial, int64_t rows, int64_t hidden, int64_t outputs) {
  const int64_t width = hidden + outputs;
  const unsigned column_blocks = static_cast<unsigned>((width + 127) / 128);
  for (unsigned block = blockIdx.x; block < kGroups * column_blocks; block += gridDim.x) {
    const int64_t group = block / column_blocks;
    const int64_t column = int64_t{block % column_blocks} * 128 + threadIdx.x;
    if (column >= width) continue;
    const bool is_hidden = column < hidden;
    const int64_t stride = is_hidden ? hidden : outputs;
    const T* const from = is_hidden ? g_pre + column : g_out + column - hidden;
    const int64_t end = (group + 1) * rows / kGroups;
    T sum = 0;
#pragma unroll 8
    for (int64_t row = group * rows / kGroups; row < end; ++row) sum += from[row * stride];
    partial[group * width + column] = sum;
  }
}

// out[i] = the sum over k of partial[k * stride + i].
template <typename T>
__global__ void __launch_bounds__(128)
    sum_partials(const T* partial, T* out, int64_t size, int64_t count, int64_t stride) {
  for (int64_t i = int64_t{blockIdx.x} * 128 + threadIdx.x; i < size; i += int64_t{gridDim.x} * 128) {
    T sum = 0;
#pragma unroll 8
    for (int64_t k = 0; k < count; ++k) sum += partial[k * stride + i];
    out[i] = sum;
  }
}

template <typename T>
const char* launch_partials(const T* partial, T* out, int64_t size, int64_t count, int64_t stride, void* stream) {
  if (size == 0) return nullptr;
  DTNN_LAUNCH(sum_partials<T>, grid_size((size + 127) / 128), 128, 0, stream, partial, out, size, count, stride);
  return launch_error();
}

int64_t num_chunks(const MessageSizes& sizes) {
  return sizes.num_bonds == 0 ? 0 : (sizes.num_bonds + kChunkBonds - 1) / kChunkBonds;
}
Rank2Sizes hidden_grad_sizes(const MessageSizes& sizes, int64_t rows) {
  return {rows, 1, sizes.features, sizes.hidden};
}
Rank2Sizes out_grad_sizes(const MessageSizes& sizes, int64_t rows) { return {rows, 1, sizes.hidden, sizes.outputs}; }
int64_t weight_numbers(const MessageSizes& sizes) { return sizes.hidden * (sizes.features + sizes.outputs); }

// The weights' gradients: sums of each chunk, then the sum over the chunks.
template <typename T>
class WeightGrads {
 public:
  WeightGrads(const MessageArgs<T>& args, const MessageInputGrads<T>& grads, T* memory) : args_(args), grads_(grads) {
    const MessageSizes& sizes = args.sizes;
    weights_ = memory;
    biases_ = weights_ + (num_chunks(sizes) > 1 ? num_chunks(sizes) * weight_numbers(sizes) : 0);
    scratch_ = biases_ + num_chunks(sizes) * kGroups * (sizes.hidden + sizes.outputs);
  }

  static int64_t memory(const MessageSizes& sizes) {
    const int64_t rows = rows_of_chunk(sizes.num_bonds);
    const int64_t scratch = rank2_weight_grad_partials(hidden_grad_sizes(sizes, rows)) * sizes.hidden *
                            (sizes.features > sizes.outputs ? sizes.features : sizes.outputs);
    const int64_t chunks = num_chunks(sizes);
    return scratch + chunks * kGroups * (sizes.hidden + sizes.outputs) +
           (chunks > 1 ? chunks * weight_numbers(sizes) : 0);
  }

  const char* add_chunk(int64_t chunk, const T* g_pre, const T* features, const T* g_out, const T* hidden, int64_t rows,
                        void* stream) {
    if (!grads_.need_weights) return nullptr;
    const MessageSizes& sizes = args_.sizes;
    const bool is_only = num_chunks(sizes) == 1;
    T* const sums = weights_ + chunk * weight_numbers(sizes);
    T* const hidden_sum = is_only ? grads_.hidden_weight : sums;
    T* const out_sum = is_only ? grads_.out_weight : sums + sizes.hidden * sizes.features;
    const char* error = outer_products(g_pre, features, hidden_sum, hidden_grad_sizes(sizes, rows), stream);
    if (error == nullptr) error = outer_products(g_out, hidden, out_sum, out_grad_sizes(sizes, rows), stream);
    const int64_t width = sizes.hidden + sizes.outputs;
    if (error != nullptr || width == 0) return error;
    DTNN_LAUNCH(sum_columns<T>, grid_size(kGroups * ((width + 127) / 128)), 128, 0, stream, g_pre, g_out,
                biases_ + chunk * kGroups * width, rows, sizes.hidden, sizes.outputs);
    return launch_error();
  }

  const char* finish(void* stream) {
    if (!grads_.need_weights) return nullptr;
    const MessageSizes& sizes = args_.sizes;
    const int64_t chunks = num_chunks(sizes), width = sizes.hidden + sizes.outputs, all = weight_numbers(sizes);
    const int64_t hidden_size = sizes.hidden * sizes.features;
    const char* error = launch_partials(biases_, grads_.hidden_bias, sizes.hidden, chunks * kGroups, width, stream);
    if (error == nullptr) {
      error = launch_partials(biases_ + sizes.hidden, grads_.out_bias, sizes.outputs, chunks * kGroups, width, stream);
    }
    if (error != nullptr || chunks == 1) return error;
    error = launch_partials(weights_, grads_.hidden_weight, hidden_size, chunks, all, stream);
    if (error != nullptr) return error;
    return launch_partials(weights_ + hidden_size, grads_.out_weight, all - hidden_size, chunks, all, stream);
  }

 private:
  const char* outer_products(const T* total, const T* x, T* out, const Rank2Sizes& sizes, void* stream) {
    Rank2Rows<T> given{};
    given.origin = Rank2Rows<T>::kGiven;
    given.rows = total;
    return launch_rank2_weight_grad(Rank2WeightGradArgs<T>{given, x, out, scratch_, sizes, args_.precision}, stream);
  }

  const MessageArgs<T>& args_;
  const MessageInputGrads<T>& grads_;
  T* weights_;  // [chunks, H F + O H]; none for one chunk
  T* biases_;   // [chunks, kGroups, H + O]
  T* scratch_;
};

// For an empty list.
template <typename T>
const char* clear_weight_grads(const MessageInputGrads<T>& grads, const MessageSizes& sizes, void* stream) {
  const auto clear = [stream](T* data, int64_t size) {
    if (size > 0) {
      cudaMemsetAsync(data, 0, static_cast<size_t>(size) * sizeof(T), static_cast<cudaStream_t>(stream));
    }
  };
  clear(grads.hidden_weight, sizes.hidden * sizes.features);
  clear(grads.hidden_bias, sizes.hidden);
  clear(grads.out_weight, sizes.outputs * sizes.hidden);
  clear(grads.out_bias, sizes.outputs);
  return launch_error();
}

}  // namespace

int64_t messages_backward_workspace(const MessageSizes& sizes, bool need_weights) {
  return rows_of_chunk(sizes.num_bonds) * chunk_row(sizes) +
         sizes.num_bonds * (kBondTerms * sizes.vectors + sizes.hidden) +
         (need_weights ? WeightGrads<float>::memory(sizes) : 0);
}

template <typename T>
const char* launch_bond_messages_backward(const MessageArgs<T>& arguments, const MessageResultGrads<T>& result_grads,
                                          const MessageInputGrads<T>& grads, T* workspace, void* stream) {
  MessageArgs<T> args = arguments;
  const MessageSizes& sizes = args.sizes;
  if (const char* const problem = size_problem(sizes)) return problem;
  args.errors = arguments.errors.with(kEndTexts, sizes.num_atoms, sizes.num_bonds);
  const bool turned = args.turn != nullptr;
  const int64_t chunk = rows_of_chunk(sizes.num_bonds);
  const ChunkMemory<T> memory(workspace, sizes);
  T* const terms = workspace + chunk * chunk_row(sizes);
  T* const g_pre = terms + sizes.num_bonds * kBondTerms * sizes.vectors;
  WeightGrads<T> weights(args, grads, g_pre + sizes.num_bonds * sizes.hidden);
  if (sizes.num_bonds == 0 && grads.need_weights) {
    if (const char* const error = clear_weight_grads(grads, sizes, stream)) return error;
  }
  for (int64_t number = 0; number < num_chunks(sizes); ++number) {
    const int64_t first = number * chunk;
    const int64_t rows = sizes.num_bonds - first < chunk ? sizes.num_bonds - first : chunk;
    T* const g_hidden = g_pre + first * sizes.hidden;
    const char* error = launch_message_grads(args, result_grads, grads, memory, terms, g_hidden, first, rows, stream);
    if (error == nullptr) {
      error = weights.add_chunk(number, g_hidden, memory.features, memory.g_out, memory.hidden, rows, stream);
    }
    if (error != nullptr) return error;
  }
  if (sizes.num_bonds > 0) {
    if (const char* const error = weights.finish(stream)) return error;
  }
  const AtomWarps layout = AtomWarps::of(sizes.hidden, sizes.vectors, g_pre, grads.atom_hidden);
  const int64_t warps = sizes.num_atoms * layout.warps;
  if (warps == 0) return nullptr;
  constexpr int W = kPackSize<T>;
  auto* kernel = turned ? sum_grads<T, 1, true> : sum_grads<T, 1, false>;
  if (layout.packed) kernel = turned ? sum_grads<T, W, true> : sum_grads<T, W, false>;
  DTNN_LAUNCH(kernel, grid_size((warps + kMessageWarps - 1) / kMessageWarps), kMessageThreads, 0, stream, args, terms,
              g_pre, grads, layout);
  return launch_error();
}

template const char* launch_bond_messages_backward<float>(const MessageArgs<float>&, const MessageResultGrads<float>&,
                                                          const MessageInputGrads<float>&, float*, void*);
template const char* launch_bond_messages_backward<double>(const MessageArgs<double>&,
                                                           const MessageResultGrads<double>&,
                                                           const MessageInputGrads<double>&, double*, void*);

}  // namespace dtnn::cuda
