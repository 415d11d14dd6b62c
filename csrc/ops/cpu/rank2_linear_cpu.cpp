// SPDX-License-Identifier: MIT
#include <cmath>

#include "core/cpu_clones.h"
#include "ops/cpu/large_pages.h"
#include "ops/cpu/rank2_blocks.h"
#include "ops/rank2_linear.h"

namespace dtnn {
namespace {

// norm [atoms, D] of y [atoms, K, D].
template <typename T>
DTNN_ALWAYS_INLINE void norms(const T* __restrict y, int64_t atoms, int64_t components, int64_t channels, T eps,
                              T* __restrict norm) {
  for (int64_t n = 0; n < atoms; ++n, y += components * channels, norm += channels) {
    for (int64_t d = 0; d < channels; ++d) {
      T sum = 0;
      for (int64_t k = 0; k < components; ++k) {
        const T value = y[k * channels + d];
        sum += static_cast<T>(component_weight(k)) * value * value;
      }
      norm[d] = std::sqrt(sum + eps * eps) - eps;
    }
  }
}

template <typename T>
struct NormGrad {
  const T* grad_y;  // may be null
  const T* grad_norm;
  const T* y;
  const T* norm;
  T eps;
};

// total [atoms, K, D], the gradient of y through y itself and through the norm; `first` is the block's first atom.
template <typename T>
DTNN_ALWAYS_INLINE void total_grads(const NormGrad<T>& grads, int64_t first, int64_t last, int64_t components,
                                    int64_t channels, T* __restrict total) {
  for (int64_t n = first; n < last; ++n) {
    const T* grad_norm = grads.grad_norm + n * channels;
    const T* norm = grads.norm + n * channels;
    for (int64_t k = 0; k < components; ++k, total += channels) {
      const int64_t row = (n * components + k) * channels;
      const T* y = grads.y + row;
      const T weight = static_cast<T>(component_weight(k));
      for (int64_t d = 0; d < channels; ++d) total[d] = weight * y[d] * (grad_norm[d] / (norm[d] + grads.eps));
      if (grads.grad_y == nullptr) continue;
      for (int64_t d = 0; d < channels; ++d) total[d] += grads.grad_y[row + d];
    }
  }
}

// The number of components as a constant lets the compiler unroll the sum and keep the channels in vectors.
template <typename T>
DTNN_ALWAYS_INLINE void norms_by_components(const T* y, int64_t atoms, int64_t components, int64_t channels, T eps,
                                            T* norm) {
  if (components == 1) return norms<T>(y, atoms, 1, channels, eps, norm);
  if (components == 3) return norms<T>(y, atoms, 3, channels, eps, norm);
  return norms<T>(y, atoms, 6, channels, eps, norm);
}

DTNN_CPU_CLONES void block_norms(const float* y, int64_t atoms, int64_t components, int64_t channels, float eps,
                                 float* norm) {
  norms_by_components(y, atoms, components, channels, eps, norm);
}
DTNN_CPU_CLONES void block_norms(const double* y, int64_t atoms, int64_t components, int64_t channels, double eps,
                                 double* norm) {
  norms_by_components(y, atoms, components, channels, eps, norm);
}
DTNN_CPU_CLONES void block_total_grads(const NormGrad<float>& grads, int64_t first, int64_t last, int64_t components,
                                       int64_t channels, float* total) {
  total_grads(grads, first, last, components, channels, total);
}
DTNN_CPU_CLONES void block_total_grads(const NormGrad<double>& grads, int64_t first, int64_t last, int64_t components,
                                       int64_t channels, double* total) {
  total_grads(grads, first, last, components, channels, total);
}

template <typename T>
const T* data_or_null(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? tensor->template const_data_ptr<T>() : nullptr;
}

template <typename T>
void forward(const Rank2Shape& shape, const Tensor& x, const Tensor& weight_t, T eps, Tensor& y, Tensor* norm) {
  const T* in = x.const_data_ptr<T>();
  const T* weights = weight_t.const_data_ptr<T>();
  T* out = y.mutable_data_ptr<T>();
  T* norm_out = norm == nullptr ? nullptr : norm->mutable_data_ptr<T>();
  const int64_t k = shape.components, c = shape.channels_in, d = shape.channels_out;
  for_each_block<T>(shape, [&](int64_t first, int64_t last, T*) {
    mix_rows(shape, in + first * k * c, weights, out + first * k * d, (last - first) * k);
    if (norm_out != nullptr) block_norms(out + first * k * d, last - first, k, d, eps, norm_out + first * d);
  });
}

template <typename T>
void backward(const Rank2Shape& shape, const Rank2BackwardArgs& args, const Tensor& x, const Tensor& weight,
              Tensor& grad_x, Tensor& grad_weight) {
  const NormGrad<T> grads{data_or_null<T>(args.grad_y), data_or_null<T>(args.grad_norm), data_or_null<T>(args.y),
                          data_or_null<T>(args.norm), static_cast<T>(args.eps)};
  const T* in = x.const_data_ptr<T>();
  const T* weights = weight.const_data_ptr<T>();
  T* grad_in = args.need_x ? grad_x.mutable_data_ptr<T>() : nullptr;
  const int64_t k = shape.components, c = shape.channels_in, d = shape.channels_out;
  const auto block = [&](int64_t first, int64_t last, T* scratch, T* grad_weights) {
    const T* total = grads.grad_y == nullptr ? scratch : grads.grad_y + first * k * d;
    if (grads.grad_norm != nullptr) {
      block_total_grads(grads, first, last, k, d, scratch);
      total = scratch;
    }
    const int64_t rows = (last - first) * k;
    if (grad_in != nullptr) mix_rows_back(shape, total, weights, grad_in + first * k * c, rows);
    if (grad_weights != nullptr) add_weight_grad(shape, total, in + first * k * c, grad_weights, rows);
  };
  if (args.need_weight) {
    sum_weight_grad<T>(shape, grad_weight.mutable_data_ptr<T>(), block);
  } else {
    for_each_block<T>(shape, [&](int64_t first, int64_t last, T* scratch) { block(first, last, scratch, nullptr); });
  }
}

}  // namespace

void rank2_linear_cpu(const Rank2Shape& shape, const Tensor& x, const Tensor& weight_t, double eps, Tensor& y,
                      Tensor* norm) {
  advise_large_pages(y);
  if (x.scalar_type() == ScalarType::Float) return forward<float>(shape, x, weight_t, eps, y, norm);
  return forward<double>(shape, x, weight_t, eps, y, norm);
}

void rank2_linear_backward_cpu(const Rank2Shape& shape, const Rank2BackwardArgs& args, const Tensor& x,
                               const Tensor& weight, Tensor& grad_x, Tensor& grad_weight) {
  advise_large_pages(grad_x);
  if (x.scalar_type() == ScalarType::Float) return backward<float>(shape, args, x, weight, grad_x, grad_weight);
  return backward<double>(shape, args, x, weight, grad_x, grad_weight);
}

}  // namespace dtnn
