// SPDX-License-Identifier: MIT
#include <cmath>

#include "core/simd_level.h"
#include "ops/cpu/rank2_blocks.h"
#include "ops/cpu/tensor_large_pages.h"
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

// total [atoms, K, D], the gradient of y through y itself and through the norm.
template <int components, bool with_grad_y, typename T>
DTNN_ALWAYS_INLINE void total_grads(const NormGrad<T>& grads, AtomRange atoms, int64_t channels, T* __restrict total) {
  for (int64_t n = atoms.first; n < atoms.last; ++n, total += components * channels) {
    const T* __restrict grad_norm = grads.grad_norm + n * channels;
    const T* __restrict norm = grads.norm + n * channels;
    const T* __restrict y = grads.y + n * components * channels;
    const T* __restrict grad_y = with_grad_y ? grads.grad_y + n * components * channels : nullptr;
    for (int64_t d = 0; d < channels; ++d) {
      const T slope = grad_norm[d] / (norm[d] + grads.eps);
#pragma GCC unroll 6
      for (int k = 0; k < components; ++k) {
        const T through_norm = static_cast<T>(component_weight(k)) * y[k * channels + d] * slope;
        total[k * channels + d] = with_grad_y ? through_norm + grad_y[k * channels + d] : through_norm;
      }
    }
  }
}

template <bool with_grad_y, typename T>
DTNN_ALWAYS_INLINE void total_grads_by_components(const NormGrad<T>& grads, AtomRange atoms, int64_t components,
                                                  int64_t channels, T* total) {
  if (components == 1) return total_grads<1, with_grad_y>(grads, atoms, channels, total);
  if (components == 3) return total_grads<3, with_grad_y>(grads, atoms, channels, total);
  return total_grads<6, with_grad_y>(grads, atoms, channels, total);
}

template <typename T>
DTNN_ALWAYS_INLINE void total_grads_of_any_shape(const NormGrad<T>& grads, AtomRange atoms, int64_t components,
                                                 int64_t channels, T* total) {
  if (grads.grad_y == nullptr) return total_grads_by_components<false>(grads, atoms, components, channels, total);
  return total_grads_by_components<true>(grads, atoms, components, channels, total);
}

// The number of components as a constant lets the compiler unroll the sum and keep the channels in vectors.
template <typename T>
DTNN_ALWAYS_INLINE void norms_by_components(const T* y, int64_t atoms, int64_t components, int64_t channels, T eps,
                                            T* norm) {
  if (components == 1) return norms<T>(y, atoms, 1, channels, eps, norm);
  if (components == 3) return norms<T>(y, atoms, 3, channels, eps, norm);
  return norms<T>(y, atoms, 6, channels, eps, norm);
}

DTNN_SIMD_VERSIONS(void, block_norms, norms_by_components,
                   (const float* y, int64_t atoms, int64_t components, int64_t channels, float eps, float* norm),
                   (y, atoms, components, channels, eps, norm))
DTNN_SIMD_VERSIONS(void, block_norms, norms_by_components,
                   (const double* y, int64_t atoms, int64_t components, int64_t channels, double eps, double* norm),
                   (y, atoms, components, channels, eps, norm))
DTNN_SIMD_VERSIONS(void, block_total_grads, total_grads_of_any_shape,
                   (const NormGrad<float>& grads, AtomRange atoms, int64_t components, int64_t channels, float* total),
                   (grads, atoms, components, channels, total))
DTNN_SIMD_VERSIONS(void, block_total_grads, total_grads_of_any_shape,
                   (const NormGrad<double>& grads, AtomRange atoms, int64_t components, int64_t channels,
                    double* total),
                   (grads, atoms, components, channels, total))

template <typename T>
void forward(const Rank2Shape& shape, const Tensor& x, const Tensor& weight, T eps, Tensor& y, Tensor* norm) {
  const T* in = x.const_data_ptr<T>();
  T* out = y.mutable_data_ptr<T>();
  T* norm_out = norm == nullptr ? nullptr : norm->mutable_data_ptr<T>();
  const int64_t k = shape.components, c = shape.channels_in, d = shape.channels_out;
  const PackedMatrix<T> weight_t(weight.const_data_ptr<T>(), 1, c, c, d);
  for_each_step<T>(shape, 0, [&](AtomRange atoms, AtomRange next, T*) {
    Prefetch ahead;
    ahead.add(in + next.first * k * c, next.size() * k * c);
    ahead.add(out + next.first * k * d, next.size() * k * d);
    if (norm_out != nullptr) ahead.add(norm_out + next.first * d, next.size() * d);
    multiply(in + atoms.first * k * c, weight_t, out + atoms.first * k * d, atoms.size() * k, ahead);
    if (norm_out == nullptr) return;
    block_norms(out + atoms.first * k * d, atoms.size(), k, d, eps, norm_out + atoms.first * d);
  });
}

template <typename T>
void backward(const Rank2Shape& shape, const Rank2BackwardArgs& args, const Tensor& x, const Tensor& weight,
              Tensor& grad_x, Tensor& grad_weight) {
  const NormGrad<T> grads{data_or_null<T>(args.grad_y), data_or_null<T>(args.grad_norm), data_or_null<T>(args.y),
                          data_or_null<T>(args.norm), static_cast<T>(args.eps)};
  const int64_t k = shape.components, c = shape.channels_in, d = shape.channels_out;
  std::optional<PackedMatrix<T>> packed;
  if (args.need_x) packed.emplace(weight.const_data_ptr<T>(), c, 1, d, c);
  const MixBackward<T> job{x.const_data_ptr<T>(), packed.has_value() ? &*packed : nullptr,
                           args.need_x ? grad_x.mutable_data_ptr<T>() : nullptr,
                           args.need_weight ? grad_weight.mutable_data_ptr<T>() : nullptr};
  const auto compute_total = [&](AtomRange atoms, T* scratch) -> const T* {
    if (grads.grad_norm == nullptr) return grads.grad_y + atoms.first * k * d;
    block_total_grads(grads, atoms, k, d, scratch);
    return scratch;
  };
  const auto fetch = [&](AtomRange atoms, Prefetch& ahead) {
    if (grads.grad_y != nullptr) ahead.add(grads.grad_y + atoms.first * k * d, atoms.size() * k * d);
    if (grads.grad_norm == nullptr) return;
    ahead.add(grads.y + atoms.first * k * d, atoms.size() * k * d);
    ahead.add(grads.grad_norm + atoms.first * d, atoms.size() * d);
    ahead.add(grads.norm + atoms.first * d, atoms.size() * d);
  };
  mix_backward(shape, job, compute_total, fetch);
}

}  // namespace

void rank2_linear_cpu(const Rank2Shape& shape, const Tensor& x, const Tensor& weight, double eps, Tensor& y,
                      Tensor* norm) {
  advise_large_pages(y);
  if (x.scalar_type() == ScalarType::Float) return forward<float>(shape, x, weight, eps, y, norm);
  return forward<double>(shape, x, weight, eps, y, norm);
}

void rank2_linear_backward_cpu(const Rank2Shape& shape, const Rank2BackwardArgs& args, const Tensor& x,
                               const Tensor& weight, Tensor& grad_x, Tensor& grad_weight) {
  advise_large_pages(grad_x);
  if (x.scalar_type() == ScalarType::Float) return backward<float>(shape, args, x, weight, grad_x, grad_weight);
  return backward<double>(shape, args, x, weight, grad_x, grad_weight);
}

}  // namespace dtnn
