// SPDX-License-Identifier: MIT
// The gradients of the steps of a tile program that are no products, for a block of threads: as core/node_*.h computes
// them on the CPU. The first part of a gradient is written, later ones are added. Values stand in device memory, and a
// thread loads all components of a channel at once. The gradient of an input may stand where that of the output stands:
// a thread reads what it needs of an element before it writes there. Where a value is the input twice, the order of
// writing counts (core/tile_backward.cpp).
#pragma once

#include <type_traits>

#include "tile_algebra.h"

namespace dtnn::cuda {

// The gradient of one input.
template <typename T>
struct InputGrad {
  T* data;  // null: not needed
  bool add;

  __device__ __forceinline__ InputGrad(const Tile<T>& tile, const TileStep& step, int input)
      : data(step.grad_in[input] < 0 ? nullptr : tile.at(step.grad_in[input])), add((step.adds >> input & 1) != 0) {}
  __device__ __forceinline__ bool needed() const { return data != nullptr; }
  __device__ __forceinline__ void put(unsigned i, T value) const {
    if (data != nullptr) data[i] = add ? data[i] + value : value;
  }
};

// Calls body with 1, 3 or 6 as a type.
template <typename Body>
__device__ __forceinline__ void with_components(unsigned components, const Body& body) {
  if (components == 1) {
    body(std::integral_constant<unsigned, 1>{});
  } else if (components == 3) {
    body(std::integral_constant<unsigned, 3>{});
  } else {
    body(std::integral_constant<unsigned, 6>{});
  }
}

template <typename T>
__device__ __forceinline__ void silu_grads(const Tile<T>& tile, const TileStep& step) {
  const T* const xs = tile.at(step.in[0]);
  const T* const masks = tile.input(step, 1);
  const T* const grads = tile.at(step.grad);
  const InputGrad<T> grad_x(tile, step, 0), grad_mask(tile, step, 1);
  const unsigned count = tile.rows * static_cast<unsigned>(step.components * step.channels);
#pragma unroll 2
  for (unsigned i = threadIdx.x; i < count; i += kTileThreads) {
    const T x = xs[i], grad = grads[i], scale = sigmoid(x);
    if (grad_x.needed()) {
      const T factor = masks == nullptr ? grad : grad * masks[i];
      grad_x.put(i, factor * scale * (T(1) + x * (T(1) - scale)));
    }
    grad_mask.put(i, grad * (x * scale));
  }
}

template <typename T>
__device__ __forceinline__ void norm_grads(const Tile<T>& tile, const TileStep& step) {
  const T* const x = tile.at(step.in[0]);
  const T* const norm = tile.at(step.out);
  const T* const grad = tile.at(step.grad);
  const InputGrad<T> grad_x(tile, step, 0);
  const unsigned c = static_cast<unsigned>(step.channels);
  const T eps = static_cast<T>(step.eps);
  with_components(static_cast<unsigned>(step.in_components), [&](auto components) {
    for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
      constexpr unsigned count = decltype(components)::value;
      const T slope = grad[n * c + d] / (norm[n * c + d] + eps);
#pragma unroll
      for (unsigned k = 0; k < count; ++k) {
        const unsigned i = (n * count + k) * c + d;
        grad_x.put(i, component_weight<T>(k) * x[i] * slope);
      }
    });
  });
}

template <typename T>
__device__ __forceinline__ void gate_grads(const Tile<T>& tile, const TileStep& step) {
  const InputGrad<T> grad_gate(tile, step, 0), grad_x(tile, step, 1), grad_residual(tile, step, 2);
  const bool scaled = grad_gate.needed() || grad_x.needed();
  const T* const gate = tile.at(step.in[0]);
  const T* const x = tile.at(step.in[1]);
  const T* const grads = tile.at(step.grad);
  const unsigned c = static_cast<unsigned>(step.channels);
  with_components(static_cast<unsigned>(step.components), [&](auto components) {
    for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
      constexpr unsigned count = decltype(components)::value;
      T grad[count], values[count];
#pragma unroll
      for (unsigned k = 0; k < count; ++k) {
        const unsigned i = (n * count + k) * c + d;
        grad[k] = grads[i];
        values[k] = grad_gate.needed() ? x[i] : T(0);
      }
      const T scale = scaled ? sigmoid(gate[n * c + d]) : T(0);
      T sum = 0;
#pragma unroll
      for (unsigned k = 0; k < count; ++k) {
        const unsigned i = (n * count + k) * c + d;
        sum += grad[k] * values[k];
        grad_x.put(i, scale * grad[k]);
        grad_residual.put(i, grad[k]);
      }
      grad_gate.put(n * c + d, sum * (scale * (T(1) - scale)));
    });
  });
}

template <typename T>
__device__ __forceinline__ void add_grads(const Tile<T>& tile, const TileStep& step) {
  const T* const grads = tile.at(step.grad);
  const InputGrad<T> first(tile, step, 0), second(tile, step, 1);
  const unsigned count = tile.rows * static_cast<unsigned>(step.components * step.channels);
#pragma unroll 2
  for (unsigned i = threadIdx.x; i < count; i += kTileThreads) {
    const T grad = grads[i];
    first.put(i, grad);
    second.put(i, grad);
  }
}

template <typename T>
__device__ __forceinline__ void atom_tensor_grads(const Tile<T>& tile, const TileStep& step) {
  const InputGrad<T> grad_value(tile, step, 0), grad_gate(tile, step, 1), grad_vector(tile, step, 2),
      grad_tensor(tile, step, 3);
  const T* const values = tile.at(step.in[0]);
  const T* const gates = tile.at(step.in[1]);
  const T* const vectors = tile.at(step.in[2]);
  const T* const grads = tile.at(step.grad);
  for (unsigned n = threadIdx.x; n < tile.rows; n += kTileThreads) {
    const T* const g = grads + 6 * n;
    const T trace = g[0] + g[1] + g[2];
    if (grad_value.needed() || grad_gate.needed()) {
      const T scale = sigmoid(gates[n]);
      grad_value.put(n, trace * scale);
      if (grad_gate.needed()) grad_gate.put(n, trace * values[n] * (scale * (T(1) - scale)));
    }
    if (grad_vector.needed()) {
      const T x = vectors[3 * n], y = vectors[3 * n + 1], z = vectors[3 * n + 2];
      grad_vector.put(3 * n, T(2) * g[0] * x + g[5] * y + g[4] * z);
      grad_vector.put(3 * n + 1, g[5] * x + T(2) * g[1] * y + g[3] * z);
      grad_vector.put(3 * n + 2, g[4] * x + g[3] * y + T(2) * g[2] * z);
    }
#pragma unroll
    for (unsigned k = 0; k < 6; ++k) grad_tensor.put(6 * n + k, g[k]);
  }
}

template <typename T>
__device__ __forceinline__ void layer_norm_grads(const Tile<T>& tile, const TileStep& step) {
  const T* const xs = tile.at(step.in[0]);
  const T* const ys = tile.at(step.out);
  const T* const grads = tile.at(step.grad);
  const InputGrad<T> grad_x(tile, step, 0);
  const unsigned c = static_cast<unsigned>(step.channels);
  const T eps = static_cast<T>(step.eps), count = static_cast<T>(step.channels);
  for_each_row(tile.rows, [&](unsigned n, unsigned lane) {
    const T* const x = xs + n * c;
    const T* const y = ys + n * c;
    const T* const grad = grads + n * c;
    T sum = 0, grad_sum = 0, along = 0;
    for (unsigned d = lane; d < c; d += 32) {
      sum += x[d];
      grad_sum += grad[d];
      along += grad[d] * y[d];
    }
    const T mean = sum_of_lanes(sum) / count;
    const T mean_grad = sum_of_lanes(grad_sum) / count, mean_along = sum_of_lanes(along) / count;
    T squares = 0;
    for (unsigned d = lane; d < c; d += 32) squares += (x[d] - mean) * (x[d] - mean);
    const T variance = sum_of_lanes(squares) / count;
    const T inverse = T(1) / sqrt(variance + eps) + T(0) * variance;
    for (unsigned d = lane; d < c; d += 32) {
      grad_x.put(n * c + d, inverse * (grad[d] - mean_grad - y[d] * mean_along));
    }
  });
}

template <typename T>
__device__ __forceinline__ void soft_scale_grads(const Tile<T>& tile, const TileStep& step) {
  const T* const x = tile.at(step.in[0]);
  const T* const out = tile.at(step.out);
  const T* const grad = tile.at(step.grad);
  const InputGrad<T> grad_x(tile, step, 0);
  const unsigned c = static_cast<unsigned>(step.in_channels);
  with_components(static_cast<unsigned>(step.in_components), [&](auto components) {
    for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
      constexpr unsigned count = decltype(components)::value;
      const T slope = -grad[n] * out[n] * out[n] * out[n] / static_cast<T>(c);
#pragma unroll
      for (unsigned k = 0; k < count; ++k) {
        const unsigned i = (n * count + k) * c + d;
        grad_x.put(i, slope * component_weight<T>(k) * x[i]);
      }
    });
  });
}

template <typename T>
__device__ __forceinline__ void scale_rows_grads(const Tile<T>& tile, const TileStep& step) {
  const InputGrad<T> grad_x(tile, step, 0), grad_scale(tile, step, 1);
  const T* const x = tile.at(step.in[0]);
  const T* const scales = tile.at(step.in[1]);
  const T* const grad = tile.at(step.grad);
  const unsigned size = static_cast<unsigned>(step.components * step.channels);
  for_each_row(tile.rows, [&](unsigned n, unsigned lane) {
    if (grad_scale.needed()) {
      T sum = 0;
#pragma unroll 4
      for (unsigned i = lane; i < size; i += 32) sum += grad[n * size + i] * x[n * size + i];
      sum = sum_of_lanes(sum);
      if (lane == 0) grad_scale.put(n, sum);
    }
    if (!grad_x.needed()) return;
    const T scale = scales[n];
    for (unsigned i = lane; i < size; i += 32) grad_x.put(n * size + i, scale * grad[n * size + i]);
  });
}

template <typename T>
__device__ __forceinline__ void times_vector_grads(const Tile<T>& tile, const TileStep& step) {
  const InputGrad<T> grad_tensor(tile, step, 0), grad_vector(tile, step, 1);
  const T* const tensors = tile.at(step.in[0]);
  const T* const vectors = tile.at(step.in[1]);
  const T* const grads = tile.at(step.grad);
  const unsigned c = static_cast<unsigned>(step.channels);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const unsigned i = n * 6 * c + d, j = n * 3 * c + d;
    const T a = grads[j], b = grads[j + c], e = grads[j + 2 * c];
    if (grad_tensor.needed()) {
      const T x = vectors[j], y = vectors[j + c], z = vectors[j + 2 * c];
      grad_tensor.put(i, a * x);
      grad_tensor.put(i + c, b * y);
      grad_tensor.put(i + 2 * c, e * z);
      grad_tensor.put(i + 3 * c, b * z + e * y);
      grad_tensor.put(i + 4 * c, a * z + e * x);
      grad_tensor.put(i + 5 * c, a * y + b * x);
    }
    if (grad_vector.needed()) {
      const T* const t = tensors + i;
      const T xx = t[0], yy = t[c], zz = t[2 * c], yz = t[3 * c], xz = t[4 * c], xy = t[5 * c];
      grad_vector.put(j, xx * a + xy * b + xz * e);
      grad_vector.put(j + c, xy * a + yy * b + yz * e);
      grad_vector.put(j + 2 * c, xz * a + yz * b + zz * e);
    }
  });
}

template <typename T>
__device__ __forceinline__ void trace_grads(const Tile<T>& tile, const TileStep& step) {
  const T* const grads = tile.at(step.grad);
  const InputGrad<T> grad_tensor(tile, step, 0);
  const unsigned c = static_cast<unsigned>(step.channels);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const T grad = grads[n * c + d];
#pragma unroll
    for (unsigned k = 0; k < 6; ++k) {
      // The first part is written whole.
      if (k < 3 || !grad_tensor.add) grad_tensor.put((n * 6 + k) * c + d, k < 3 ? grad : T(0));
    }
  });
}

template <typename T>
__device__ __forceinline__ void dot_grads(const Tile<T>& tile, const TileStep& step) {
  const T* const grads = tile.at(step.grad);
  const unsigned c = static_cast<unsigned>(step.channels);
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    const InputGrad<T> grad_in(tile, step, side);
    if (!grad_in.needed()) continue;
    const T* const other = tile.at(step.in[1 - side]);
    for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
      const T grad = grads[n * c + d];
#pragma unroll
      for (unsigned k = 0; k < 3; ++k) {
        const unsigned i = (n * 3 + k) * c + d;
        grad_in.put(i, grad * other[i]);
      }
    });
  }
}

template <typename T>
__device__ __forceinline__ void square_grads(const Tile<T>& tile, const TileStep& step) {
  const T* const vectors = tile.at(step.in[0]);
  const T* const grads = tile.at(step.grad);
  const InputGrad<T> grad_vector(tile, step, 0);
  const unsigned c = static_cast<unsigned>(step.channels);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const unsigned j = n * 3 * c + d;
    const T* const g = grads + n * 6 * c + d;
    const T x = vectors[j], y = vectors[j + c], z = vectors[j + 2 * c];
    const T yz = g[3 * c], xz = g[4 * c], xy = g[5 * c];
    grad_vector.put(j, T(2) * g[0] * x + xz * z + xy * y);
    grad_vector.put(j + c, T(2) * g[c] * y + yz * z + xy * x);
    grad_vector.put(j + 2 * c, T(2) * g[2 * c] * z + yz * y + xz * x);
  });
}

template <typename T>
__device__ __forceinline__ void gated_sum_grads(const Tile<T>& tile, const TileStep& step) {
  const T* const grads = tile.at(step.grad);
  const InputGrad<T> grad_gates[2] = {{tile, step, 0}, {tile, step, 2}};
  const InputGrad<T> grad_xs[2] = {{tile, step, 1}, {tile, step, 3}};
  const InputGrad<T> grad_base(tile, step, 4);
  const T* const gates[2] = {tile.at(step.in[0]), tile.at(step.in[2])};
  const T* const xs[2] = {tile.at(step.in[1]), tile.at(step.in[3])};
  const unsigned c = static_cast<unsigned>(step.channels);
  with_components(static_cast<unsigned>(step.components), [&](auto components) {
    for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
      constexpr unsigned count = decltype(components)::value;
      T grad[count], sums[2];
#pragma unroll
      for (unsigned k = 0; k < count; ++k) grad[k] = grads[(n * count + k) * c + d];
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const T gate = grad_xs[side].needed() ? gates[side][n * c + d] : T(0);
        T sum = 0;
#pragma unroll
        for (unsigned k = 0; k < count; ++k) {
          const unsigned i = (n * count + k) * c + d;
          if (grad_gates[side].needed()) sum += grad[k] * xs[side][i];
          grad_xs[side].put(i, gate * grad[k]);
        }
        sums[side] = sum;
      }
#pragma unroll
      for (unsigned k = 0; k < count; ++k) grad_base.put((n * count + k) * c + d, grad[k]);
#pragma unroll
      for (int side = 0; side < 2; ++side) grad_gates[side].put(n * c + d, sums[side]);
    });
  });
}

template <typename T>
__device__ __forceinline__ void traceless_grads(const Tile<T>& tile, const TileStep& step) {
  const T* const grads = tile.at(step.grad);
  const InputGrad<T> grad_tensor(tile, step, 0);
  const unsigned c = static_cast<unsigned>(step.channels);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const unsigned first = n * 6 * c + d;
    T grad[6];
#pragma unroll
    for (unsigned k = 0; k < 6; ++k) grad[k] = grads[first + k * c];
    const T mean = (grad[0] + grad[1] + grad[2]) / T(3);
#pragma unroll
    for (unsigned k = 0; k < 6; ++k) grad_tensor.put(first + k * c, k < 3 ? grad[k] - mean : grad[k]);
  });
}

template <typename T>
__device__ __forceinline__ void algebra_grads(const Tile<T>& tile, const TileStep& step) {
  switch (step.kind) {
    case TileNodeKind::kLinear:
      return;
    case TileNodeKind::kSilu:
      return silu_grads(tile, step);
    case TileNodeKind::kNorm:
      return norm_grads(tile, step);
    case TileNodeKind::kGate:
      return gate_grads(tile, step);
    case TileNodeKind::kAdd:
      return add_grads(tile, step);
    case TileNodeKind::kAtomTensor:
      return atom_tensor_grads(tile, step);
    case TileNodeKind::kLayerNorm:
      return layer_norm_grads(tile, step);
    case TileNodeKind::kSoftScale:
      return soft_scale_grads(tile, step);
    case TileNodeKind::kScaleRows:
      return scale_rows_grads(tile, step);
    case TileNodeKind::kTimesVector:
      return times_vector_grads(tile, step);
    case TileNodeKind::kTrace:
      return trace_grads(tile, step);
    case TileNodeKind::kDot:
      return dot_grads(tile, step);
    case TileNodeKind::kSquare:
      return square_grads(tile, step);
    case TileNodeKind::kGatedSum:
      return gated_sum_grads(tile, step);
    case TileNodeKind::kTraceless:
      return traceless_grads(tile, step);
  }
}

}  // namespace dtnn::cuda
