// SPDX-License-Identifier: MIT
// Nodes of a tile program that need a whole row first: layer norm, soft scale, and a factor for each row.
// Included by tile_nodes.cpp and dual_tile_nodes.cpp alone, which compile them for each instruction set with
// -ffp-contract=fast.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/node_functions.h"

namespace dtnn {
namespace {

// Sums over channels in a fixed number of lanes, the same for every instruction set.
template <typename T, typename Term>
DTNN_ALWAYS_INLINE T sum_channels(int64_t channels, const Term& term) {
  constexpr int lanes = 16;
  T sums[lanes] = {};
  int64_t d = 0;
  for (; d + lanes <= channels; d += lanes) {
#pragma GCC unroll 16
    for (int l = 0; l < lanes; ++l) sums[l] += term(d + l);
  }
  for (int l = 0; d < channels; ++d, ++l) sums[l] += term(d);
  T sum = 0;
  for (int l = 0; l < lanes; ++l) sum += sums[l];
  return sum;
}

template <typename T>
DTNN_ALWAYS_INLINE void layer_norm_moments(const T* x, int64_t channels, T eps, T& mean, T& inverse) {
  mean = sum_channels<T>(channels, [&](int64_t d) { return x[d]; }) / static_cast<T>(channels);
  const T variance = sum_channels<T>(channels,
                                     [&](int64_t d) {
                                       const T centred = x[d] - mean;
                                       return centred * centred;
                                     }) /
                     static_cast<T>(channels);
  // The second term is NaN where squares are beyond the largest number: without it these rows would silently become 0.
  inverse = T(1) / sqrt(variance + eps) + T(0) * variance;
}

template <typename T>
DTNN_ALWAYS_INLINE void layer_norm_forward(const NodeForward<T>& node) {
  const int64_t channels = node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict x = node.in[0] + n * channels;
    T* __restrict out = node.out + n * channels;
    T mean, inverse;
    layer_norm_moments(x, channels, node.eps, mean, inverse);
    for (int64_t d = 0; d < channels; ++d) out[d] = (x[d] - mean) * inverse;
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void layer_norm_backward(const NodeBackward<T>& node) {
  const int64_t channels = node.channels;
  if (node.grad_in[0] == nullptr) return;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict y = node.out + n * channels;
    const T* __restrict grad = node.grad + n * channels;
    T* __restrict grad_x = node.grad_in[0] + n * channels;
    T mean, inverse;
    layer_norm_moments(node.in[0] + n * channels, channels, node.eps, mean, inverse);
    const T mean_grad = sum_channels<T>(channels, [&](int64_t d) { return grad[d]; }) / static_cast<T>(channels);
    const T along = sum_channels<T>(channels, [&](int64_t d) { return grad[d] * y[d]; }) / static_cast<T>(channels);
    for (int64_t d = 0; d < channels; ++d) grad_x[d] += inverse * (grad[d] - mean_grad - y[d] * along);
  }
}

// The mean over the channels of |x|^2, of a row.
template <typename T>
DTNN_ALWAYS_INLINE T mean_square(const T* x, int64_t components, int64_t channels) {
  T sum = 0;
  for (int64_t k = 0; k < components; ++k) {
    sum += static_cast<T>(component_weight(k)) *
           sum_channels<T>(channels, [&](int64_t d) { return x[k * channels + d] * x[k * channels + d]; });
  }
  return sum / static_cast<T>(channels);
}

template <typename T>
DTNN_ALWAYS_INLINE void soft_scale_forward(const NodeForward<T>& node) {
  const int64_t components = node.in_components, channels = node.in_channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    node.out[n] = T(1) / sqrt(T(1) + mean_square(node.in[0] + n * components * channels, components, channels));
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void soft_scale_backward(const NodeBackward<T>& node) {
  const int64_t components = node.in_components, channels = node.in_channels;
  if (node.grad_in[0] == nullptr) return;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict x = node.in[0] + n * components * channels;
    T* __restrict grad_x = node.grad_in[0] + n * components * channels;
    const T slope = -node.grad[n] * node.out[n] * node.out[n] * node.out[n] / static_cast<T>(channels);
    for (int64_t k = 0; k < components; ++k) {
      const T factor = slope * static_cast<T>(component_weight(k));
      for (int64_t d = 0; d < channels; ++d) grad_x[k * channels + d] += factor * x[k * channels + d];
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void scale_rows_forward(const NodeForward<T>& node) {
  const int64_t size = node.components * node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T scale = node.in[1][n];
    for (int64_t i = 0; i < size; ++i) node.out[n * size + i] = scale * node.in[0][n * size + i];
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void scale_rows_backward(const NodeBackward<T>& node) {
  const int64_t size = node.components * node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* grad = node.grad + n * size;
    const T* x = node.in[0] + n * size;
    if (node.grad_in[1] != nullptr)
      node.grad_in[1][n] += sum_channels<T>(size, [&](int64_t i) { return grad[i] * x[i]; });
    if (node.grad_in[0] == nullptr) continue;
    const T scale = node.in[1][n];
    T* grad_x = node.grad_in[0] + n * size;
    for (int64_t i = 0; i < size; ++i) grad_x[i] += scale * grad[i];
  }
}

}  // namespace
}  // namespace dtnn
