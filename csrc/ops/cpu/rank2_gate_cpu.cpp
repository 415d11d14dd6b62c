// SPDX-License-Identifier: MIT
#include "core/sigmoid.h"
#include "core/simd_level.h"
#include "core/wide.h"
#include "ops/cpu/rank2_blocks.h"
#include "ops/cpu/tensor_large_pages.h"
#include "ops/rank2_gate.h"

namespace dtnn {
namespace {

template <typename T>
struct GateRows {
  const T* gate;      // [atoms, D]
  const T* linear;    // [atoms, K, D]
  const T* residual;  // [atoms, K, D], may be null
  T* out;             // [atoms, K, D]
};

template <typename T>
struct GateGradRows {
  const T* gate;      // [atoms, D]
  const T* linear;    // [atoms, K, D], null without grad_gate
  const T* grad_out;  // [atoms, K, D]
  T* total;           // [atoms, K, D]
  T* grad_gate;       // [atoms, D], may be null
};

// The channels of atom n from d on that fill a V: out = sigmoid(gate) * linear (+ residual).
template <typename V, typename T>
DTNN_ALWAYS_INLINE void apply_gate(const GateRows<T>& rows, int64_t n, int64_t components, int64_t channels,
                                   int64_t d) {
  V gate, scale, value, residual;
  load(gate, rows.gate + n * channels + d);
  sigmoid<T>(gate, scale);
  for (int64_t k = 0; k < components; ++k) {
    const int64_t at = (n * components + k) * channels + d;
    load(value, rows.linear + at);
    value = scale * value;
    if (rows.residual != nullptr) {
      load(residual, rows.residual + at);
      value = value + residual;
    }
    store(rows.out + at, value);
  }
}

// Likewise total = sigmoid(gate) * grad_out, and the gradient of the gate.
template <typename V, typename T>
DTNN_ALWAYS_INLINE void gate_grads(const GateGradRows<T>& rows, int64_t n, int64_t components, int64_t channels,
                                   int64_t d) {
  V gate, scale, grad_out, linear, sum = {};
  load(gate, rows.gate + n * channels + d);
  sigmoid<T>(gate, scale);
  for (int64_t k = 0; k < components; ++k) {
    const int64_t at = (n * components + k) * channels + d;
    load(grad_out, rows.grad_out + at);
    const V total = scale * grad_out;
    store(rows.total + at, total);
    if (rows.grad_gate == nullptr) continue;
    load(linear, rows.linear + at);
    sum += grad_out * linear;
  }
  if (rows.grad_gate == nullptr) return;
  const V grad_gate = sum * (scale * (T(1) - scale));
  store(rows.grad_gate + n * channels + d, grad_gate);
}

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void all_gates(const GateRows<T>& rows, int64_t atoms, int64_t components, int64_t channels) {
  using V = Wide<T, bytes>;
  constexpr int64_t lanes = lanes_in<V, T>;
  for (int64_t n = 0; n < atoms; ++n) {
    int64_t d = 0;
    for (; d + lanes <= channels; d += lanes) apply_gate<V>(rows, n, components, channels, d);
    for (; d < channels; ++d) apply_gate<T>(rows, n, components, channels, d);
  }
}

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void all_gate_grads(const GateGradRows<T>& rows, int64_t atoms, int64_t components,
                                       int64_t channels) {
  using V = Wide<T, bytes>;
  constexpr int64_t lanes = lanes_in<V, T>;
  for (int64_t n = 0; n < atoms; ++n) {
    int64_t d = 0;
    for (; d + lanes <= channels; d += lanes) gate_grads<V>(rows, n, components, channels, d);
    for (; d < channels; ++d) gate_grads<T>(rows, n, components, channels, d);
  }
}

DTNN_SIMD_VERSIONS_OF(void, gate_rows, all_gates<64>, all_gates<32>, all_gates<16>,
                      (const GateRows<float>& rows, int64_t atoms, int64_t components, int64_t channels),
                      (rows, atoms, components, channels))
DTNN_SIMD_VERSIONS_OF(void, gate_rows, all_gates<64>, all_gates<32>, all_gates<16>,
                      (const GateRows<double>& rows, int64_t atoms, int64_t components, int64_t channels),
                      (rows, atoms, components, channels))
DTNN_SIMD_VERSIONS_OF(void, gate_grad_rows, all_gate_grads<64>, all_gate_grads<32>, all_gate_grads<16>,
                      (const GateGradRows<float>& rows, int64_t atoms, int64_t components, int64_t channels),
                      (rows, atoms, components, channels))
DTNN_SIMD_VERSIONS_OF(void, gate_grad_rows, all_gate_grads<64>, all_gate_grads<32>, all_gate_grads<16>,
                      (const GateGradRows<double>& rows, int64_t atoms, int64_t components, int64_t channels),
                      (rows, atoms, components, channels))

template <typename T>
void forward(const Rank2Shape& shape, const Tensor& x, const Tensor& gate, const Tensor& weight, const Tensor* residual,
             Tensor& out, Tensor* linear) {
  const T* in = x.const_data_ptr<T>();
  const T* gates = gate.const_data_ptr<T>();
  const T* residuals = residual == nullptr ? nullptr : residual->const_data_ptr<T>();
  T* outs = out.mutable_data_ptr<T>();
  T* kept = linear == nullptr ? nullptr : linear->mutable_data_ptr<T>();
  const int64_t k = shape.components, c = shape.channels_in, d = shape.channels_out;
  const PackedMatrix<T> weight_t(weight.const_data_ptr<T>(), 1, c, c, d);
  for_each_step<T>(shape, k * d, [&](AtomRange atoms, AtomRange next, T* scratch) {
    T* mixed = kept == nullptr ? scratch : kept + atoms.first * k * d;
    Prefetch ahead;
    ahead.add(in + next.first * k * c, next.size() * k * c);
    ahead.add(gates + next.first * d, next.size() * d);
    ahead.add(outs + next.first * k * d, next.size() * k * d);
    if (residuals != nullptr) ahead.add(residuals + next.first * k * d, next.size() * k * d);
    if (kept != nullptr) ahead.add(kept + next.first * k * d, next.size() * k * d);
    multiply(in + atoms.first * k * c, weight_t, mixed, atoms.size() * k, ahead);
    gate_rows(GateRows<T>{gates + atoms.first * d, mixed,
                          residuals == nullptr ? nullptr : residuals + atoms.first * k * d, outs + atoms.first * k * d},
              atoms.size(), k, d);
  });
}

template <typename T>
void backward(const Rank2Shape& shape, const Tensor& grad_out, const Tensor& x, const Tensor& gate,
              const Tensor& weight, const Tensor* linear, const Rank2GateNeeds& needs, Rank2GateGrads& grads) {
  const T* out_grads = grad_out.const_data_ptr<T>();
  const T* gates = gate.const_data_ptr<T>();
  const T* mixed = linear == nullptr ? nullptr : linear->const_data_ptr<T>();
  T* grad_gates = needs.gate ? grads.grad_gate.mutable_data_ptr<T>() : nullptr;
  const int64_t k = shape.components, c = shape.channels_in, d = shape.channels_out;
  const PackedMatrix<T> packed(weight.const_data_ptr<T>(), c, 1, d, c);
  const MixBackward<T> job{x.const_data_ptr<T>(), &packed, needs.x ? grads.grad_x.mutable_data_ptr<T>() : nullptr,
                           needs.weight ? grads.grad_weight.mutable_data_ptr<T>() : nullptr};
  const auto compute_total = [&](AtomRange atoms, T* total) -> const T* {
    gate_grad_rows(GateGradRows<T>{gates + atoms.first * d, mixed == nullptr ? nullptr : mixed + atoms.first * k * d,
                                   out_grads + atoms.first * k * d, total,
                                   grad_gates == nullptr ? nullptr : grad_gates + atoms.first * d},
                   atoms.size(), k, d);
    return total;
  };
  const auto fetch = [&](AtomRange atoms, Prefetch& ahead) {
    ahead.add(out_grads + atoms.first * k * d, atoms.size() * k * d);
    ahead.add(gates + atoms.first * d, atoms.size() * d);
    if (grad_gates == nullptr) return;
    ahead.add(mixed + atoms.first * k * d, atoms.size() * k * d);
    ahead.add(grad_gates + atoms.first * d, atoms.size() * d);
  };
  mix_backward(shape, job, compute_total, fetch);
}

}  // namespace

void rank2_gate_cpu(const Rank2Shape& shape, const Tensor& x, const Tensor& gate, const Tensor& weight,
                    const Tensor* residual, Tensor& out, Tensor* linear) {
  advise_large_pages(out);
  if (linear != nullptr) advise_large_pages(*linear);
  if (x.scalar_type() == ScalarType::Float) return forward<float>(shape, x, gate, weight, residual, out, linear);
  return forward<double>(shape, x, gate, weight, residual, out, linear);
}

void rank2_gate_backward_cpu(const Rank2Shape& shape, const Tensor& grad_out, const Tensor& x, const Tensor& gate,
                             const Tensor& weight, const Tensor* linear, const Rank2GateNeeds& needs,
                             Rank2GateGrads& grads) {
  if (needs.x) advise_large_pages(grads.grad_x);
  if (x.scalar_type() == ScalarType::Float) {
    return backward<float>(shape, grad_out, x, gate, weight, linear, needs, grads);
  }
  return backward<double>(shape, grad_out, x, gate, weight, linear, needs, grads);
}

}  // namespace dtnn
