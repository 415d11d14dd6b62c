// SPDX-License-Identifier: MIT
// The CUDA kernels of rank2_linear and rank2_gate as plain C++ functions; rules as in launchers.h, formulas in
// ops/rank2_linear.h and ops/rank2_gate.h. All tensors but the weight are contiguous. Sums over channels ascend; sums
// over atoms go by chunks that follow from the shape alone, so results do not depend on the GPU.
#pragma once

#include <cstdint>

namespace dtnn::cuda {

// What the factors of a product in float32 are rounded to; sums are float32 always. Products in float64 ignore it.
enum class Precision { kFloat32, kTf32, kBfloat16 };

// Rows [num_atoms, components, channels], given or computed while they are loaded.
template <typename T>
struct Rank2Rows {
  enum Origin { kGiven, kThroughNorm, kThroughGate };
  Origin origin;
  const T* rows;       // kGiven: the rows. kThroughNorm: grad_y or null. kThroughGate: grad_out.
  const T* mixed;      // [num_atoms, components, channels]; kThroughNorm: y. kThroughGate: linear, with grad_gate only
  const T* invariant;  // [num_atoms, channels]; kThroughNorm: grad_norm. kThroughGate: gate
  const T* norm;       // [num_atoms, channels]; kThroughNorm only
  T eps;               // kThroughNorm only
  T* grad_gate;        // [num_atoms, channels] out, may be null; kThroughGate only
};

struct Rank2Sizes {
  int64_t num_atoms;
  int64_t components;    // 1, 3 or 6
  int64_t channels_in;   // of the rows that are read
  int64_t channels_out;  // of the rows that are written
};

// weight(in, out) = data[in * in_stride + out * out_stride]: the weight, or its transpose, without a copy.
template <typename T>
struct Rank2Weight {
  const T* data;
  int64_t in_stride;
  int64_t out_stride;
};

// out = rows * weight, and optionally its norm: rank2_linear, and grad_x of both operations.
template <typename T>
struct Rank2LinearArgs {
  Rank2Rows<T> rows;
  Rank2Weight<T> weight;
  T* out;   // [num_atoms, components, channels_out]
  T* norm;  // [num_atoms, channels_out], may be null
  T eps;
  Rank2Sizes sizes;
  Precision precision;
};

// out = sigmoid(gate) * (x * weight) + residual.
template <typename T>
struct Rank2GateArgs {
  const T* x;
  const T* gate;  // [num_atoms, channels_out]
  Rank2Weight<T> weight;
  const T* residual;  // as out, may be null
  T* out;             // [num_atoms, components, channels_out]
  T* linear;          // as out, may be null
  Rank2Sizes sizes;
  Precision precision;
};

// grad_gate alone, for a backward without grad_x: `rows` has the origin kThroughGate.
template <typename T>
struct Rank2GateGradArgs {
  Rank2Rows<T> rows;
  int64_t num_atoms;
  int64_t components;
  int64_t channels;
};

// grad_weight [channels_out, channels_in] = sum over atoms and components of total (the rows, of channels_out) times x.
template <typename T>
struct Rank2WeightGradArgs {
  Rank2Rows<T> total;
  const T* x;  // [num_atoms, components, channels_in]
  T* grad_weight;
  T* partial;  // rank2_weight_grad_partials(sizes) times the size of grad_weight
  Rank2Sizes sizes;
  Precision precision;
};
int64_t rank2_weight_grad_partials(const Rank2Sizes& sizes);

// Defined for T = float and double.
template <typename T>
const char* launch_rank2_linear(const Rank2LinearArgs<T>& args, void* stream);
template <typename T>
const char* launch_rank2_gate(const Rank2GateArgs<T>& args, void* stream);
template <typename T>
const char* launch_rank2_gate_grad(const Rank2GateGradArgs<T>& args, void* stream);
template <typename T>
const char* launch_rank2_weight_grad(const Rank2WeightGradArgs<T>& args, void* stream);

}  // namespace dtnn::cuda
