// SPDX-License-Identifier: MIT
#include "core/cpu_clones.h"
#include "ops/cpu/large_pages.h"
#include "ops/cpu/rank2_blocks.h"
#include "ops/rank2_gate.h"

namespace dtnn {
namespace {

// out [atoms, K, D] = scale [atoms, D] * linear (+ residual).
template <typename T>
DTNN_ALWAYS_INLINE void apply_gate(const T* linear, const T* scale, const T* residual, int64_t atoms,
                                   int64_t components, int64_t channels, T* __restrict out) {
  for (int64_t n = 0; n < atoms; ++n, scale += channels) {
    for (int64_t k = 0; k < components; ++k, linear += channels, out += channels) {
      if (residual == nullptr) {
        for (int64_t d = 0; d < channels; ++d) out[d] = scale[d] * linear[d];
      } else {
        for (int64_t d = 0; d < channels; ++d) out[d] = scale[d] * linear[d] + residual[d];
        residual += channels;
      }
    }
  }
}

// total = scale * grad_out, and the gradient of the gate.
template <typename T>
DTNN_ALWAYS_INLINE void gate_grads(const T* grad_out, const T* linear, const T* scale, int64_t atoms,
                                   int64_t components, int64_t channels, T* __restrict total, T* __restrict grad_gate) {
  for (int64_t n = 0; n < atoms; ++n, scale += channels, grad_gate += channels) {
    for (int64_t d = 0; d < channels; ++d) grad_gate[d] = 0;
    for (int64_t k = 0; k < components; ++k, grad_out += channels, linear += channels, total += channels) {
      for (int64_t d = 0; d < channels; ++d) {
        total[d] = scale[d] * grad_out[d];
        grad_gate[d] += grad_out[d] * linear[d];
      }
    }
    for (int64_t d = 0; d < channels; ++d) grad_gate[d] *= scale[d] * (1 - scale[d]);
  }
}

DTNN_CPU_CLONES void block_gate(const float* linear, const float* scale, const float* residual, int64_t atoms,
                                int64_t components, int64_t channels, float* out) {
  apply_gate(linear, scale, residual, atoms, components, channels, out);
}
DTNN_CPU_CLONES void block_gate(const double* linear, const double* scale, const double* residual, int64_t atoms,
                                int64_t components, int64_t channels, double* out) {
  apply_gate(linear, scale, residual, atoms, components, channels, out);
}
DTNN_CPU_CLONES void block_gate_grads(const float* grad_out, const float* linear, const float* scale, int64_t atoms,
                                      int64_t components, int64_t channels, float* total, float* grad_gate) {
  gate_grads(grad_out, linear, scale, atoms, components, channels, total, grad_gate);
}
DTNN_CPU_CLONES void block_gate_grads(const double* grad_out, const double* linear, const double* scale, int64_t atoms,
                                      int64_t components, int64_t channels, double* total, double* grad_gate) {
  gate_grads(grad_out, linear, scale, atoms, components, channels, total, grad_gate);
}

template <typename T>
void forward(const Rank2Shape& shape, const Tensor& x, const Tensor& scale, const Tensor& weight_t,
             const Tensor* residual, Tensor& out, Tensor* linear) {
  const T* in = x.const_data_ptr<T>();
  const T* scales = scale.const_data_ptr<T>();
  const T* weights = weight_t.const_data_ptr<T>();
  const T* residuals = residual == nullptr ? nullptr : residual->const_data_ptr<T>();
  T* outs = out.mutable_data_ptr<T>();
  T* kept = linear == nullptr ? nullptr : linear->mutable_data_ptr<T>();
  const int64_t k = shape.components, c = shape.channels_in, d = shape.channels_out;
  for_each_block<T>(shape, [&](int64_t first, int64_t last, T* scratch) {
    T* mixed = kept == nullptr ? scratch : kept + first * k * d;
    mix_rows(shape, in + first * k * c, weights, mixed, (last - first) * k);
    block_gate(mixed, scales + first * d, residuals == nullptr ? nullptr : residuals + first * k * d, last - first, k,
               d, outs + first * k * d);
  });
}

template <typename T>
void backward(const Rank2Shape& shape, const Tensor& grad_out, const Tensor& x, const Tensor& scale,
              const Tensor& weight, const Tensor& linear, Rank2GateGrads& grads) {
  const T* out_grads = grad_out.const_data_ptr<T>();
  const T* in = x.const_data_ptr<T>();
  const T* scales = scale.const_data_ptr<T>();
  const T* weights = weight.const_data_ptr<T>();
  const T* mixed = linear.const_data_ptr<T>();
  T* grad_in = grads.grad_x.mutable_data_ptr<T>();
  T* grad_gates = grads.grad_gate.mutable_data_ptr<T>();
  const int64_t k = shape.components, c = shape.channels_in, d = shape.channels_out;
  sum_weight_grad<T>(shape, grads.grad_weight.mutable_data_ptr<T>(),
                     [&](int64_t first, int64_t last, T* total, T* grad_weights) {
                       const int64_t rows = (last - first) * k;
                       block_gate_grads(out_grads + first * k * d, mixed + first * k * d, scales + first * d,
                                        last - first, k, d, total, grad_gates + first * d);
                       mix_rows_back(shape, total, weights, grad_in + first * k * c, rows);
                       add_weight_grad(shape, total, in + first * k * c, grad_weights, rows);
                     });
}

}  // namespace

void rank2_gate_cpu(const Rank2Shape& shape, const Tensor& x, const Tensor& scale, const Tensor& weight_t,
                    const Tensor* residual, Tensor& out, Tensor* linear) {
  advise_large_pages(out);
  if (linear != nullptr) advise_large_pages(*linear);
  if (x.scalar_type() == ScalarType::Float) return forward<float>(shape, x, scale, weight_t, residual, out, linear);
  return forward<double>(shape, x, scale, weight_t, residual, out, linear);
}

void rank2_gate_backward_cpu(const Rank2Shape& shape, const Tensor& grad_out, const Tensor& x, const Tensor& scale,
                             const Tensor& weight, const Tensor& linear, Rank2GateGrads& grads) {
  advise_large_pages(grads.grad_x);
  if (x.scalar_type() == ScalarType::Float) {
    return backward<float>(shape, grad_out, x, scale, weight, linear, grads);
  }
  return backward<double>(shape, grad_out, x, scale, weight, linear, grads);
}

}  // namespace dtnn
