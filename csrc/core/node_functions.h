// SPDX-License-Identifier: MIT
// Nodes of a tile program that act number by number or atom by atom: silu, gate, norm, sum, the tensor of an atom.
// Included by tile_nodes.cpp and dual_tile_nodes.cpp alone, which compile them for each instruction set with
// -ffp-contract=fast.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "core/sigmoid.h"
#include "core/tile_nodes.h"
#include "core/wide.h"

namespace dtnn {
namespace {

using std::sqrt;  // beside that of dual numbers

// Off-diagonal components of a stored symmetric tensor stand twice in the full one.
DTNN_ALWAYS_INLINE constexpr int component_weight(int64_t k) { return k < 3 ? 1 : 2; }

// Calls body(v, i) for all i in steps of vectors, and of single numbers at the end; `v` is room for the numbers. By
// reference, since a wide vector must not be passed by value (core/wide.h). With 0 bytes there are single numbers
// alone.
template <int bytes, typename T, typename Body>
DTNN_ALWAYS_INLINE void for_each_vector(int64_t count, const Body& body) {
  int64_t i = 0;
  if constexpr (bytes > 0) {
    using V = Wide<T, bytes>;
    V wide{};
    for (; i + lanes_in<V, T> <= count; i += lanes_in<V, T>) body(wide, i);
  }
  T single{};
  for (; i < count; ++i) body(single, i);
}

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void silu_forward(const NodeForward<T>& node) {
  const T* x = node.in[0];
  const T* mask = node.in[1];
  for_each_vector<bytes, T>(node.rows * node.components * node.channels,
                            [&](auto& v, int64_t i) __attribute__((always_inline)) {
                              std::decay_t<decltype(v)> scale, factor;
                              load(v, x + i);
                              sigmoid<T>(v, scale);
                              v = v * scale;
                              if (mask != nullptr) {
                                load(factor, mask + i);
                                v = v * factor;
                              }
                              store(node.out + i, v);
                            });
}

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void silu_backward(const NodeBackward<T>& node) {
  const T* x = node.in[0];
  const T* mask = node.in[1];
  T *grad_x = node.grad_in[0], *grad_mask = node.grad_in[1];
  for_each_vector<bytes, T>(node.rows * node.components * node.channels,
                            [&](auto& v, int64_t i) __attribute__((always_inline)) {
                              std::decay_t<decltype(v)> scale, grad, other;
                              load(v, x + i);
                              sigmoid<T>(v, scale);
                              load(grad, node.grad + i);
                              if (grad_mask != nullptr) {
                                load(other, grad_mask + i);
                                other = other + grad * (v * scale);
                                store(grad_mask + i, other);
                              }
                              if (grad_x == nullptr) return;
                              if (mask != nullptr) {
                                load(other, mask + i);
                                grad = grad * other;
                              }
                              load(other, grad_x + i);
                              other = other + grad * scale * (T(1) + v * (T(1) - scale));
                              store(grad_x + i, other);
                            });
}

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void gate_forward(const NodeForward<T>& node) {
  const int64_t channels = node.channels, components = node.components;
  const T* residual = node.in[2];
  for (int64_t n = 0; n < node.rows; ++n) {
    for_each_vector<bytes, T>(channels, [&](auto& v, int64_t d) __attribute__((always_inline)) {
      std::decay_t<decltype(v)> scale, added;
      load(v, node.in[0] + n * channels + d);
      sigmoid<T>(v, scale);
      for (int64_t k = 0; k < components; ++k) {
        const int64_t i = (n * components + k) * channels + d;
        load(v, node.in[1] + i);
        v = v * scale;
        if (residual != nullptr) {
          load(added, residual + i);
          v = v + added;
        }
        store(node.out + i, v);
      }
    });
  }
}

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void gate_backward(const NodeBackward<T>& node) {
  const int64_t channels = node.channels, components = node.components;
  T *grad_gate = node.grad_in[0], *grad_x = node.grad_in[1], *grad_residual = node.grad_in[2];
  for (int64_t n = 0; n < node.rows; ++n) {
    for_each_vector<bytes, T>(channels, [&](auto& v, int64_t d) __attribute__((always_inline)) {
      using V = std::decay_t<decltype(v)>;
      V scale, grad, sum{};
      load(v, node.in[0] + n * channels + d);
      sigmoid<T>(v, scale);
      for (int64_t k = 0; k < components; ++k) {
        const int64_t i = (n * components + k) * channels + d;
        load(grad, node.grad + i);
        if (grad_gate != nullptr) {
          load(v, node.in[1] + i);
          sum = sum + grad * v;
        }
        if (grad_x != nullptr) {
          load(v, grad_x + i);
          v = v + scale * grad;
          store(grad_x + i, v);
        }
        if (grad_residual != nullptr) {
          load(v, grad_residual + i);
          v = v + grad;
          store(grad_residual + i, v);
        }
      }
      if (grad_gate != nullptr) {
        load(v, grad_gate + n * channels + d);
        v = v + sum * (scale * (T(1) - scale));
        store(grad_gate + n * channels + d, v);
      }
    });
  }
}

template <int components, typename T>
DTNN_ALWAYS_INLINE void norm_rows(const NodeForward<T>& node) {
  const int64_t channels = node.channels;
  const T eps = node.eps;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict x = node.in[0] + n * components * channels;
    T* __restrict out = node.out + n * channels;
    for (int64_t d = 0; d < channels; ++d) {
      T sum = 0;
#pragma GCC unroll 6
      for (int k = 0; k < components; ++k) {
        sum += static_cast<T>(component_weight(k)) * x[k * channels + d] * x[k * channels + d];
      }
      out[d] = sqrt(sum + eps * eps) - eps;
    }
  }
}

template <int components, typename T>
DTNN_ALWAYS_INLINE void norm_rows_backward(const NodeBackward<T>& node) {
  const int64_t channels = node.channels;
  if (node.grad_in[0] == nullptr) return;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict x = node.in[0] + n * components * channels;
    const T* __restrict norm = node.out + n * channels;
    const T* __restrict grad = node.grad + n * channels;
    T* __restrict grad_x = node.grad_in[0] + n * components * channels;
    for (int64_t d = 0; d < channels; ++d) {
      const T slope = grad[d] / (norm[d] + node.eps);
#pragma GCC unroll 6
      for (int k = 0; k < components; ++k) {
        grad_x[k * channels + d] += static_cast<T>(component_weight(k)) * x[k * channels + d] * slope;
      }
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void add_forward(const NodeForward<T>& node) {
  const int64_t count = node.rows * node.components * node.channels;
  for (int64_t i = 0; i < count; ++i) node.out[i] = node.in[0][i] + node.in[1][i];
}

template <typename T>
DTNN_ALWAYS_INLINE void add_backward(const NodeBackward<T>& node) {
  const int64_t count = node.rows * node.components * node.channels;
  for (int side = 0; side < 2; ++side) {
    T* grad = node.grad_in[side];
    if (grad == nullptr) continue;
    for (int64_t i = 0; i < count; ++i) grad[i] += node.grad[i];
  }
}

template <typename T>
DTNN_ALWAYS_INLINE T sigmoid_of(T x) {
  T scale;
  sigmoid<T>(x, scale);
  return scale;
}

template <typename T>
DTNN_ALWAYS_INLINE void atom_tensor_forward(const NodeForward<T>& node) {
  for (int64_t n = 0; n < node.rows; ++n) {
    const T isotropic = node.in[0][n] * sigmoid_of(node.in[1][n]);
    const T* v = node.in[2] + 3 * n;
    const T* t = node.in[3] + 6 * n;
    T* out = node.out + 6 * n;
    for (int k = 0; k < 3; ++k) out[k] = isotropic + v[k] * v[k] + t[k];
    out[3] = v[1] * v[2] + t[3];
    out[4] = v[0] * v[2] + t[4];
    out[5] = v[0] * v[1] + t[5];
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void atom_tensor_backward(const NodeBackward<T>& node) {
  for (int64_t n = 0; n < node.rows; ++n) {
    const T scale = sigmoid_of(node.in[1][n]);
    const T* v = node.in[2] + 3 * n;
    const T* g = node.grad + 6 * n;
    const T trace = g[0] + g[1] + g[2];
    if (node.grad_in[0] != nullptr) node.grad_in[0][n] += trace * scale;
    if (node.grad_in[1] != nullptr) node.grad_in[1][n] += trace * node.in[0][n] * (scale * (T(1) - scale));
    if (node.grad_in[2] != nullptr) {
      T* grad_v = node.grad_in[2] + 3 * n;
      grad_v[0] += T(2) * g[0] * v[0] + g[5] * v[1] + g[4] * v[2];
      grad_v[1] += g[5] * v[0] + T(2) * g[1] * v[1] + g[3] * v[2];
      grad_v[2] += g[4] * v[0] + g[3] * v[1] + T(2) * g[2] * v[2];
    }
    if (node.grad_in[3] != nullptr) {
      for (int k = 0; k < 6; ++k) node.grad_in[3][6 * n + k] += g[k];
    }
  }
}

}  // namespace
}  // namespace dtnn
