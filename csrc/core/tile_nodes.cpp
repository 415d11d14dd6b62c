// SPDX-License-Identifier: MIT
// Compiled with -ffp-contract=fast (CMakeLists.txt).
#include "core/tile_nodes.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "core/sigmoid.h"
#include "core/simd_level.h"
#include "core/wide.h"

namespace dtnn {
namespace {

// Off-diagonal components of a stored symmetric tensor stand twice in the full one.
DTNN_ALWAYS_INLINE constexpr int component_weight(int64_t k) { return k < 3 ? 1 : 2; }

// Calls body(v, i) for all i in steps of vectors, and of single numbers at the end; `v` is room for the numbers. By
// reference, since a wide vector must not be passed by value (core/wide.h).
template <int bytes, typename T, typename Body>
DTNN_ALWAYS_INLINE void for_each_vector(int64_t count, const Body& body) {
  using V = Wide<T, bytes>;
  int64_t i = 0;
  V wide{};
  for (; i + lanes_in<V, T> <= count; i += lanes_in<V, T>) body(wide, i);
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
      out[d] = std::sqrt(sum + eps * eps) - eps;
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
  inverse = T(1) / std::sqrt(variance + eps) + T(0) * variance;
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
    node.out[n] = T(1) / std::sqrt(T(1) + mean_square(node.in[0] + n * components * channels, components, channels));
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

template <typename T>
DTNN_ALWAYS_INLINE void times_vector_forward(const NodeForward<T>& node) {
  const int64_t c = node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict t = node.in[0] + n * 6 * c;
    const T* __restrict x = node.in[1] + n * 3 * c;
    T* __restrict out = node.out + n * 3 * c;
    for (int64_t d = 0; d < c; ++d) {
      const T xx = t[d], yy = t[c + d], zz = t[2 * c + d], yz = t[3 * c + d], xz = t[4 * c + d], xy = t[5 * c + d];
      const T a = x[d], b = x[c + d], e = x[2 * c + d];
      out[d] = xx * a + xy * b + xz * e;
      out[c + d] = xy * a + yy * b + yz * e;
      out[2 * c + d] = xz * a + yz * b + zz * e;
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void times_vector_backward(const NodeBackward<T>& node) {
  const int64_t c = node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict t = node.in[0] + n * 6 * c;
    const T* __restrict x = node.in[1] + n * 3 * c;
    const T* __restrict g = node.grad + n * 3 * c;
    if (node.grad_in[0] != nullptr) {
      T* __restrict grad_t = node.grad_in[0] + n * 6 * c;
      for (int64_t d = 0; d < c; ++d) {
        const T a = x[d], b = x[c + d], e = x[2 * c + d], ga = g[d], gb = g[c + d], ge = g[2 * c + d];
        grad_t[d] += ga * a;
        grad_t[c + d] += gb * b;
        grad_t[2 * c + d] += ge * e;
        grad_t[3 * c + d] += gb * e + ge * b;
        grad_t[4 * c + d] += ga * e + ge * a;
        grad_t[5 * c + d] += ga * b + gb * a;
      }
    }
    if (node.grad_in[1] != nullptr) {
      T* __restrict grad_x = node.grad_in[1] + n * 3 * c;
      for (int64_t d = 0; d < c; ++d) {
        const T xx = t[d], yy = t[c + d], zz = t[2 * c + d], yz = t[3 * c + d], xz = t[4 * c + d], xy = t[5 * c + d];
        const T ga = g[d], gb = g[c + d], ge = g[2 * c + d];
        grad_x[d] += xx * ga + xy * gb + xz * ge;
        grad_x[c + d] += xy * ga + yy * gb + yz * ge;
        grad_x[2 * c + d] += xz * ga + yz * gb + zz * ge;
      }
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void trace_forward(const NodeForward<T>& node) {
  const int64_t c = node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict t = node.in[0] + n * 6 * c;
    T* __restrict out = node.out + n * c;
    for (int64_t d = 0; d < c; ++d) out[d] = t[d] + t[c + d] + t[2 * c + d];
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void trace_backward(const NodeBackward<T>& node) {
  const int64_t c = node.channels;
  if (node.grad_in[0] == nullptr) return;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict g = node.grad + n * c;
    T* __restrict grad_t = node.grad_in[0] + n * 6 * c;
    for (int k = 0; k < 3; ++k) {
      for (int64_t d = 0; d < c; ++d) grad_t[k * c + d] += g[d];
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void dot_forward(const NodeForward<T>& node) {
  const int64_t c = node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict a = node.in[0] + n * 3 * c;
    const T* __restrict b = node.in[1] + n * 3 * c;
    T* __restrict out = node.out + n * c;
    for (int64_t d = 0; d < c; ++d) out[d] = a[d] * b[d] + a[c + d] * b[c + d] + a[2 * c + d] * b[2 * c + d];
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void dot_backward(const NodeBackward<T>& node) {
  const int64_t c = node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict g = node.grad + n * c;
    for (int side = 0; side < 2; ++side) {
      if (node.grad_in[side] == nullptr) continue;
      const T* __restrict other = node.in[1 - side] + n * 3 * c;
      T* __restrict grad = node.grad_in[side] + n * 3 * c;
      for (int k = 0; k < 3; ++k) {
        for (int64_t d = 0; d < c; ++d) grad[k * c + d] += g[d] * other[k * c + d];
      }
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void square_forward(const NodeForward<T>& node) {
  const int64_t c = node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict v = node.in[0] + n * 3 * c;
    T* __restrict out = node.out + n * 6 * c;
    for (int64_t d = 0; d < c; ++d) {
      const T x = v[d], y = v[c + d], z = v[2 * c + d];
      out[d] = x * x;
      out[c + d] = y * y;
      out[2 * c + d] = z * z;
      out[3 * c + d] = y * z;
      out[4 * c + d] = x * z;
      out[5 * c + d] = x * y;
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void square_backward(const NodeBackward<T>& node) {
  const int64_t c = node.channels;
  if (node.grad_in[0] == nullptr) return;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict v = node.in[0] + n * 3 * c;
    const T* __restrict g = node.grad + n * 6 * c;
    T* __restrict grad = node.grad_in[0] + n * 3 * c;
    for (int64_t d = 0; d < c; ++d) {
      const T x = v[d], y = v[c + d], z = v[2 * c + d];
      const T yz = g[3 * c + d], xz = g[4 * c + d], xy = g[5 * c + d];
      grad[d] += T(2) * g[d] * x + xz * z + xy * y;
      grad[c + d] += T(2) * g[c + d] * y + yz * z + xy * x;
      grad[2 * c + d] += T(2) * g[2 * c + d] * z + yz * y + xz * x;
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void gated_sum_forward(const NodeForward<T>& node) {
  const int64_t c = node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict gate_a = node.in[0] + n * c;
    const T* __restrict gate_b = node.in[2] + n * c;
    for (int64_t k = 0; k < node.components; ++k) {
      const int64_t first = (n * node.components + k) * c;
      const T* __restrict a = node.in[1] + first;
      const T* __restrict b = node.in[3] + first;
      T* __restrict out = node.out + first;
      if (node.in[4] == nullptr) {
        for (int64_t d = 0; d < c; ++d) out[d] = gate_a[d] * a[d] + gate_b[d] * b[d];
      } else {
        const T* base = node.in[4] + first;
        for (int64_t d = 0; d < c; ++d) out[d] = base[d] + gate_a[d] * a[d] + gate_b[d] * b[d];
      }
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void gated_sum_backward(const NodeBackward<T>& node) {
  const int64_t c = node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    for (int64_t k = 0; k < node.components; ++k) {
      const int64_t first = (n * node.components + k) * c;
      const T* __restrict g = node.grad + first;
      for (int side = 0; side < 4; side += 2) {
        const T* __restrict gate = node.in[side] + n * c;
        const T* __restrict x = node.in[side + 1] + first;
        if (node.grad_in[side] != nullptr) {
          T* __restrict grad_gate = node.grad_in[side] + n * c;
          for (int64_t d = 0; d < c; ++d) grad_gate[d] += g[d] * x[d];
        }
        if (node.grad_in[side + 1] != nullptr) {
          T* __restrict grad_x = node.grad_in[side + 1] + first;
          for (int64_t d = 0; d < c; ++d) grad_x[d] += g[d] * gate[d];
        }
      }
      if (node.grad_in[4] == nullptr) continue;
      T* __restrict grad_base = node.grad_in[4] + first;
      for (int64_t d = 0; d < c; ++d) grad_base[d] += g[d];
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void traceless_forward(const NodeForward<T>& node) {
  const int64_t c = node.channels;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict t = node.in[0] + n * 6 * c;
    T* __restrict out = node.out + n * 6 * c;
    for (int64_t d = 0; d < c; ++d) {
      const T mean = (t[d] + t[c + d] + t[2 * c + d]) / T(3);
      for (int k = 0; k < 3; ++k) out[k * c + d] = t[k * c + d] - mean;
      for (int k = 3; k < 6; ++k) out[k * c + d] = t[k * c + d];
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void traceless_backward(const NodeBackward<T>& node) {
  const int64_t c = node.channels;
  if (node.grad_in[0] == nullptr) return;
  for (int64_t n = 0; n < node.rows; ++n) {
    const T* __restrict g = node.grad + n * 6 * c;
    T* __restrict grad = node.grad_in[0] + n * 6 * c;
    for (int64_t d = 0; d < c; ++d) {
      const T mean = (g[d] + g[c + d] + g[2 * c + d]) / T(3);
      for (int k = 0; k < 3; ++k) grad[k * c + d] += g[k * c + d] - mean;
      for (int k = 3; k < 6; ++k) grad[k * c + d] += g[k * c + d];
    }
  }
}

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void forward_of_any_kind(TileNodeKind kind, const NodeForward<T>& node) {
  switch (kind) {
    case TileNodeKind::kLinear:
      return;  // a product: see TileRunner
    case TileNodeKind::kSilu:
      return silu_forward<bytes>(node);
    case TileNodeKind::kNorm:
      if (node.in_components == 1) return norm_rows<1>(node);
      return node.in_components == 3 ? norm_rows<3>(node) : norm_rows<6>(node);
    case TileNodeKind::kGate:
      return gate_forward<bytes>(node);
    case TileNodeKind::kAdd:
      return add_forward(node);
    case TileNodeKind::kAtomTensor:
      return atom_tensor_forward(node);
    case TileNodeKind::kLayerNorm:
      return layer_norm_forward(node);
    case TileNodeKind::kSoftScale:
      return soft_scale_forward(node);
    case TileNodeKind::kScaleRows:
      return scale_rows_forward(node);
    case TileNodeKind::kTimesVector:
      return times_vector_forward(node);
    case TileNodeKind::kTrace:
      return trace_forward(node);
    case TileNodeKind::kDot:
      return dot_forward(node);
    case TileNodeKind::kSquare:
      return square_forward(node);
    case TileNodeKind::kGatedSum:
      return gated_sum_forward(node);
    case TileNodeKind::kTraceless:
      return traceless_forward(node);
  }
}

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void backward_of_any_kind(TileNodeKind kind, const NodeBackward<T>& node) {
  switch (kind) {
    case TileNodeKind::kLinear:
      return;
    case TileNodeKind::kSilu:
      return silu_backward<bytes>(node);
    case TileNodeKind::kNorm:
      if (node.in_components == 1) return norm_rows_backward<1>(node);
      return node.in_components == 3 ? norm_rows_backward<3>(node) : norm_rows_backward<6>(node);
    case TileNodeKind::kGate:
      return gate_backward<bytes>(node);
    case TileNodeKind::kAdd:
      return add_backward(node);
    case TileNodeKind::kAtomTensor:
      return atom_tensor_backward(node);
    case TileNodeKind::kLayerNorm:
      return layer_norm_backward(node);
    case TileNodeKind::kSoftScale:
      return soft_scale_backward(node);
    case TileNodeKind::kScaleRows:
      return scale_rows_backward(node);
    case TileNodeKind::kTimesVector:
      return times_vector_backward(node);
    case TileNodeKind::kTrace:
      return trace_backward(node);
    case TileNodeKind::kDot:
      return dot_backward(node);
    case TileNodeKind::kSquare:
      return square_backward(node);
    case TileNodeKind::kGatedSum:
      return gated_sum_backward(node);
    case TileNodeKind::kTraceless:
      return traceless_backward(node);
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void fill_all(const T* row, int64_t rows, int64_t channels, T* out) {
  for (int64_t n = 0; n < rows; ++n) std::copy_n(row, channels, out + n * channels);
}

template <typename T>
DTNN_ALWAYS_INLINE void sum_columns(const T* __restrict x, int64_t rows, int64_t channels, T* __restrict sums) {
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t d = 0; d < channels; ++d) sums[d] += x[n * channels + d];
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void add_all_dots(const T* x, const T* column, int64_t rows, int64_t depth, bool accumulate,
                                     T* out) {
  for (int64_t n = 0; n < rows; ++n) {
    const T* row = x + n * depth;
    const T sum = sum_channels<T>(depth, [&](int64_t d) { return row[d] * column[d]; });
    out[n] = accumulate ? out[n] + sum : sum;
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void add_all_scaled(const T* __restrict x, const T* factors, int64_t rows, int64_t depth,
                                       T* __restrict sums) {
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t d = 0; d < depth; ++d) sums[d] += factors[n] * x[n * depth + d];
  }
}

}  // namespace

DTNN_SIMD_VERSIONS_OF(void, run_node_forward, forward_of_any_kind<64>, forward_of_any_kind<32>, forward_of_any_kind<16>,
                      (TileNodeKind kind, const NodeForward<float>& node), (kind, node))
DTNN_SIMD_VERSIONS_OF(void, run_node_forward, forward_of_any_kind<64>, forward_of_any_kind<32>, forward_of_any_kind<16>,
                      (TileNodeKind kind, const NodeForward<double>& node), (kind, node))
DTNN_SIMD_VERSIONS_OF(void, run_node_backward, backward_of_any_kind<64>, backward_of_any_kind<32>,
                      backward_of_any_kind<16>, (TileNodeKind kind, const NodeBackward<float>& node), (kind, node))
DTNN_SIMD_VERSIONS_OF(void, run_node_backward, backward_of_any_kind<64>, backward_of_any_kind<32>,
                      backward_of_any_kind<16>, (TileNodeKind kind, const NodeBackward<double>& node), (kind, node))
DTNN_SIMD_VERSIONS(void, fill_rows_with, fill_all, (const float* row, int64_t rows, int64_t channels, float* out),
                   (row, rows, channels, out))
DTNN_SIMD_VERSIONS(void, fill_rows_with, fill_all, (const double* row, int64_t rows, int64_t channels, double* out),
                   (row, rows, channels, out))
DTNN_SIMD_VERSIONS(void, add_column_sums, sum_columns, (const float* x, int64_t rows, int64_t channels, float* sums),
                   (x, rows, channels, sums))
DTNN_SIMD_VERSIONS(void, add_column_sums, sum_columns, (const double* x, int64_t rows, int64_t channels, double* sums),
                   (x, rows, channels, sums))
DTNN_SIMD_VERSIONS(void, add_dots, add_all_dots,
                   (const float* x, const float* column, int64_t rows, int64_t depth, bool accumulate, float* out),
                   (x, column, rows, depth, accumulate, out))
DTNN_SIMD_VERSIONS(void, add_scaled_rows, add_all_scaled,
                   (const float* x, const float* factors, int64_t rows, int64_t depth, float* sums),
                   (x, factors, rows, depth, sums))
DTNN_SIMD_VERSIONS(void, add_dots, add_all_dots,
                   (const double* x, const double* column, int64_t rows, int64_t depth, bool accumulate, double* out),
                   (x, column, rows, depth, accumulate, out))
DTNN_SIMD_VERSIONS(void, add_scaled_rows, add_all_scaled,
                   (const double* x, const double* factors, int64_t rows, int64_t depth, double* sums),
                   (x, factors, rows, depth, sums))

}  // namespace dtnn
