// SPDX-License-Identifier: MIT
// Nodes of a tile program for vectors and symmetric tensors: products, traces, gated sums.
// Included by tile_nodes.cpp and dual_tile_nodes.cpp alone, which compile them for each instruction set with
// -ffp-contract=fast.
#pragma once

#include <cstdint>

#include "core/node_functions.h"

namespace dtnn {
namespace {

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

}  // namespace
}  // namespace dtnn
