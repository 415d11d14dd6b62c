// SPDX-License-Identifier: MIT
#include "rank2_product.h"

namespace dtnn::cuda {
namespace {

// Scales the sums by the sigmoid of their gate and adds the residual; keeps the sums themselves on request.
template <typename T>
struct GateEpilogue {
  static constexpr bool rows_are_given = true;
  Output<T> out;
  Output<T> linear;
  const T* gate;
  const T* residual;
  bool gate_packed;
  bool residual_packed;

  template <int lane_packs>
  __device__ void finish(const Packed<T> (&sums)[kLaneRows][lane_packs], int64_t row, int64_t atom,
                         const Rank2Sizes& sizes, int64_t column) const {
    const int64_t num_rows = sizes.num_atoms * sizes.components;
#pragma unroll
    for (int p = 0; p < lane_packs; ++p) {
      const int64_t first = column + p * 4 * kPackSize<T>;
      if (first >= out.width) return;
      int64_t current = atom;
      Packed<T> scale{};
#pragma unroll
      for (unsigned i = 0; i < kLaneRows; ++i) {
        if (row + i >= num_rows) break;
        if (is_first_component(i, sizes.components)) {
          scale = load_pack(gate, out.width, gate_packed, current++, first);
#pragma unroll
          for (T& item : scale.item) item = sigmoid(item);
        }
        Packed<T> value = sums[i][p];
        if (linear.data != nullptr) store_pack(linear, row + i, first, value);
        Packed<T> added{};
        if (residual != nullptr) added = load_pack(residual, out.width, residual_packed, row + i, first);
#pragma unroll
        for (int v = 0; v < kPackSize<T>; ++v) value.item[v] = scale.item[v] * value.item[v] + added.item[v];
        store_pack(out, row + i, first, value);
      }
    }
  }
};

constexpr unsigned kGateThreads = 256;

// One thread per gate: neighboring threads read neighboring channels.
template <typename T>
__global__ void __launch_bounds__(kGateThreads) sum_gate_grads(Rank2GateGradArgs<T> args) {
  const int64_t num_gates = args.num_atoms * args.channels;
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < num_gates; i += stride) {
    // A division of 64-bit numbers takes several times as long.
    const bool is_small = (i | args.channels) >> 32 == 0;
    const int64_t atom = is_small ? static_cast<uint32_t>(i) / static_cast<uint32_t>(args.channels) : i / args.channels;
    const int64_t first = atom * (args.components - 1) * args.channels + i;  // component 0 of this atom and channel
    T sum = 0;
#pragma unroll 6
    for (int64_t k = 0; k < args.components; ++k) {
      const int64_t place = first + k * args.channels;
      sum += args.rows.rows[place] * args.rows.mixed[place];
    }
    const T scale = sigmoid(args.rows.invariant[i]);
    args.rows.grad_gate[i] = sum * (scale * (1 - scale));
  }
}

}  // namespace

template <typename T>
const char* launch_rank2_gate(const Rank2GateArgs<T>& args, void* stream) {
  const Rank2Sizes& sizes = args.sizes;
  if (sizes.num_atoms == 0 || sizes.channels_out == 0) return nullptr;
  const int64_t width = sizes.channels_out;
  const GateEpilogue<T> epilogue{Output<T>(args.out, width),
                                 Output<T>(args.linear, width),
                                 args.gate,
                                 args.residual,
                                 can_pack<T>(width, args.gate, args.gate),
                                 can_pack<T>(width, args.residual, args.residual)};
  Rank2Rows<T> rows{};
  rows.origin = Rank2Rows<T>::kGiven;
  rows.rows = args.x;
  return launch_product_as(args.precision, rows, args.weight, sizes, epilogue, stream);
}

template <typename T>
const char* launch_rank2_gate_grad(const Rank2GateGradArgs<T>& args, void* stream) {
  if (args.num_atoms == 0 || args.channels == 0) return nullptr;
  const int64_t blocks = (args.num_atoms * args.channels + kGateThreads - 1) / kGateThreads;
  DTNN_LAUNCH(sum_gate_grads<T>, grid_size(blocks), kGateThreads, 0, stream, args);
  return launch_error();
}

template const char* launch_rank2_gate<float>(const Rank2GateArgs<float>&, void*);
template const char* launch_rank2_gate<double>(const Rank2GateArgs<double>&, void*);
template const char* launch_rank2_gate_grad<float>(const Rank2GateGradArgs<float>&, void*);
template const char* launch_rank2_gate_grad<double>(const Rank2GateGradArgs<double>&, void*);

}  // namespace dtnn::cuda
