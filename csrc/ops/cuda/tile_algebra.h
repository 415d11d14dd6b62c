// SPDX-License-Identifier: MIT
// The steps of a tile program that are no products, for a block of threads: formulas as in core/tile_program.h.
// Elementwise steps give a thread one channel of one row with all its components, those with sums over channels give a
// warp a row.
#pragma once

#include "tile_memory.h"
#include "warp_sums.h"

namespace dtnn::cuda {

// Off-diagonal components of a stored symmetric tensor stand twice in the full one.
template <typename T>
__device__ __forceinline__ T component_weight(unsigned k) {
  return k < 3 ? T(1) : T(2);
}

// Calls body(row, channel) for all of them, each by one thread.
template <typename Body>
__device__ __forceinline__ void for_each_channel(unsigned rows, unsigned channels, const Body& body) {
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < rows * channels; i += kTileThreads) {
    const unsigned row = i / channels;
    body(row, i - row * channels);
  }
}

// Calls body(row, lane) for all rows, each by one warp.
template <typename Body>
__device__ __forceinline__ void for_each_row(unsigned rows, const Body& body) {
#pragma unroll 1
  for (unsigned row = threadIdx.x / 32; row < rows; row += kTileWarps) body(row, threadIdx.x % 32);
}

template <typename T>
__device__ __forceinline__ void silu_step(const Tile<T>& tile, const TileStep& step) {
  const T* const x = tile.at(step.in[0]);
  const T* const mask = tile.input(step, 1);
  T* const out = tile.at(step.out);
  const unsigned count = tile.rows * static_cast<unsigned>(step.components * step.channels);
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < count; i += kTileThreads) {
    const T value = x[i] * sigmoid(x[i]);
    out[i] = mask == nullptr ? value : value * mask[i];
  }
}

template <typename T>
__device__ __forceinline__ void norm_step(const Tile<T>& tile, const TileStep& step) {
  const T* const x = tile.at(step.in[0]);
  T* const out = tile.at(step.out);
  const unsigned c = static_cast<unsigned>(step.channels), components = static_cast<unsigned>(step.in_components);
  const T eps = static_cast<T>(step.eps);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    T sum = 0;
    for (unsigned k = 0; k < components; ++k) {
      const T value = x[(n * components + k) * c + d];
      sum += component_weight<T>(k) * value * value;
    }
    out[n * c + d] = sqrt(sum + eps * eps) - eps;
  });
}

template <typename T>
__device__ __forceinline__ void gate_step(const Tile<T>& tile, const TileStep& step) {
  const T* const gate = tile.at(step.in[0]);
  const T* const x = tile.at(step.in[1]);
  const T* const residual = tile.input(step, 2);
  T* const out = tile.at(step.out);
  const unsigned c = static_cast<unsigned>(step.channels), components = static_cast<unsigned>(step.components);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const T scale = sigmoid(gate[n * c + d]);
    for (unsigned k = 0; k < components; ++k) {
      const unsigned i = (n * components + k) * c + d;
      const T value = scale * x[i];
      out[i] = residual == nullptr ? value : value + residual[i];
    }
  });
}

template <typename T>
__device__ __forceinline__ void add_step(const Tile<T>& tile, const TileStep& step) {
  const T* const a = tile.at(step.in[0]);
  const T* const b = tile.at(step.in[1]);
  T* const out = tile.at(step.out);
  const unsigned count = tile.rows * static_cast<unsigned>(step.components * step.channels);
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < count; i += kTileThreads) out[i] = a[i] + b[i];
}

template <typename T>
__device__ __forceinline__ void atom_tensor_step(const Tile<T>& tile, const TileStep& step) {
  const T* const values = tile.at(step.in[0]);
  const T* const gates = tile.at(step.in[1]);
  const T* const vectors = tile.at(step.in[2]);
  const T* const tensors = tile.at(step.in[3]);
  T* const results = tile.at(step.out);
  for (unsigned n = threadIdx.x; n < tile.rows; n += kTileThreads) {
    const T isotropic = values[n] * sigmoid(gates[n]);
    const T x = vectors[3 * n], y = vectors[3 * n + 1], z = vectors[3 * n + 2];
    const T* const t = tensors + 6 * n;
    T* const out = results + 6 * n;
    out[0] = isotropic + x * x + t[0];
    out[1] = isotropic + y * y + t[1];
    out[2] = isotropic + z * z + t[2];
    out[3] = y * z + t[3];
    out[4] = x * z + t[4];
    out[5] = x * y + t[5];
  }
}

template <typename T>
__device__ __forceinline__ void layer_norm_step(const Tile<T>& tile, const TileStep& step) {
  const T* const in = tile.at(step.in[0]);
  T* const out = tile.at(step.out);
  const unsigned c = static_cast<unsigned>(step.channels);
  const T eps = static_cast<T>(step.eps);
  for_each_row(tile.rows, [&](unsigned n, unsigned lane) {
    const T* const x = in + n * c;
    T sum = 0;
    for (unsigned d = lane; d < c; d += 32) sum += x[d];
    const T mean = sum_of_lanes(sum) / static_cast<T>(c);
    T squares = 0;
    for (unsigned d = lane; d < c; d += 32) squares += (x[d] - mean) * (x[d] - mean);
    const T variance = sum_of_lanes(squares) / static_cast<T>(c);
    // NaN where squares are beyond the largest number, as on the CPU: these rows must not silently become 0.
    const T inverse = T(1) / sqrt(variance + eps) + T(0) * variance;
    for (unsigned d = lane; d < c; d += 32) out[n * c + d] = (x[d] - mean) * inverse;
  });
}

template <typename T>
__device__ __forceinline__ void soft_scale_step(const Tile<T>& tile, const TileStep& step) {
  const T* const in = tile.at(step.in[0]);
  T* const out = tile.at(step.out);
  const unsigned c = static_cast<unsigned>(step.in_channels), components = static_cast<unsigned>(step.in_components);
  for_each_row(tile.rows, [&](unsigned n, unsigned lane) {
    T sum = 0;
    for (unsigned k = 0; k < components; ++k) {
      const T* const x = in + (n * components + k) * c;
      for (unsigned d = lane; d < c; d += 32) sum += component_weight<T>(k) * x[d] * x[d];
    }
    sum = sum_of_lanes(sum);
    if (lane == 0) out[n] = T(1) / sqrt(T(1) + sum / static_cast<T>(c));
  });
}

template <typename T>
__device__ __forceinline__ void scale_rows_step(const Tile<T>& tile, const TileStep& step) {
  const T* const x = tile.at(step.in[0]);
  const T* const scale = tile.at(step.in[1]);
  T* const out = tile.at(step.out);
  const unsigned per_row = static_cast<unsigned>(step.components * step.channels);
  for_each_channel(tile.rows, per_row,
                   [&](unsigned n, unsigned i) { out[n * per_row + i] = scale[n] * x[n * per_row + i]; });
}

template <typename T>
__device__ __forceinline__ void times_vector_step(const Tile<T>& tile, const TileStep& step) {
  const T* const tensors = tile.at(step.in[0]);
  const T* const vectors = tile.at(step.in[1]);
  T* const results = tile.at(step.out);
  const unsigned c = static_cast<unsigned>(step.channels);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const T* const t = tensors + n * 6 * c + d;
    const T* const v = vectors + n * 3 * c + d;
    T* const out = results + n * 3 * c + d;
    const T yz = t[3 * c], xz = t[4 * c], xy = t[5 * c], x = v[0], y = v[c], z = v[2 * c];
    out[0] = t[0] * x + xy * y + xz * z;
    out[c] = xy * x + t[c] * y + yz * z;
    out[2 * c] = xz * x + yz * y + t[2 * c] * z;
  });
}

template <typename T>
__device__ __forceinline__ void trace_step(const Tile<T>& tile, const TileStep& step) {
  const T* const tensors = tile.at(step.in[0]);
  T* const out = tile.at(step.out);
  const unsigned c = static_cast<unsigned>(step.channels);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const T* const t = tensors + n * 6 * c + d;
    out[n * c + d] = t[0] + t[c] + t[2 * c];
  });
}

template <typename T>
__device__ __forceinline__ void dot_step(const Tile<T>& tile, const TileStep& step) {
  const T* const first = tile.at(step.in[0]);
  const T* const second = tile.at(step.in[1]);
  T* const out = tile.at(step.out);
  const unsigned c = static_cast<unsigned>(step.channels);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const T* const a = first + n * 3 * c + d;
    const T* const b = second + n * 3 * c + d;
    out[n * c + d] = a[0] * b[0] + a[c] * b[c] + a[2 * c] * b[2 * c];
  });
}

template <typename T>
__device__ __forceinline__ void square_step(const Tile<T>& tile, const TileStep& step) {
  const T* const vectors = tile.at(step.in[0]);
  T* const results = tile.at(step.out);
  const unsigned c = static_cast<unsigned>(step.channels);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const T* const v = vectors + n * 3 * c + d;
    T* const out = results + n * 6 * c + d;
    const T x = v[0], y = v[c], z = v[2 * c];
    out[0] = x * x;
    out[c] = y * y;
    out[2 * c] = z * z;
    out[3 * c] = y * z;
    out[4 * c] = x * z;
    out[5 * c] = x * y;
  });
}

template <typename T>
__device__ __forceinline__ void gated_sum_step(const Tile<T>& tile, const TileStep& step) {
  const T* const gate_a = tile.at(step.in[0]);
  const T* const a = tile.at(step.in[1]);
  const T* const gate_b = tile.at(step.in[2]);
  const T* const b = tile.at(step.in[3]);
  const T* const base = tile.input(step, 4);
  T* const out = tile.at(step.out);
  const unsigned c = static_cast<unsigned>(step.channels), components = static_cast<unsigned>(step.components);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const T factor_a = gate_a[n * c + d], factor_b = gate_b[n * c + d];
    for (unsigned k = 0; k < components; ++k) {
      const unsigned i = (n * components + k) * c + d;
      const T sum = factor_a * a[i] + factor_b * b[i];
      out[i] = base == nullptr ? sum : base[i] + sum;
    }
  });
}

template <typename T>
__device__ __forceinline__ void traceless_step(const Tile<T>& tile, const TileStep& step) {
  const T* const tensors = tile.at(step.in[0]);
  T* const results = tile.at(step.out);
  const unsigned c = static_cast<unsigned>(step.channels);
  for_each_channel(tile.rows, c, [&](unsigned n, unsigned d) {
    const T* const t = tensors + n * 6 * c + d;
    T* const out = results + n * 6 * c + d;
    const T mean = (t[0] + t[c] + t[2 * c]) / T(3);
#pragma unroll
    for (unsigned k = 0; k < 6; ++k) out[k * c] = k < 3 ? t[k * c] - mean : t[k * c];
  });
}

// A product with one column: a warp for each row.
template <typename T>
__device__ __forceinline__ void column_step(const Tile<T>& tile, const TileStep& step) {
  T* const out = tile.at(step.out);
  const T bias = step.bias < 0 ? T(0) : tile.weights[step.bias];
  for_each_row(tile.rows * static_cast<unsigned>(step.components), [&](unsigned row, unsigned lane) {
    T sum = 0;
    for (int t = step.first_term; t < step.end_term; ++t) {
      const TileTerm& term = tile.args.terms[t];
      const unsigned depth = static_cast<unsigned>(term.depth), stride = static_cast<unsigned>(term.row_stride);
      const T* const x = tile.at(term.x) + row * depth;
      const T* const weight = tile.weights + term.weight;
      for (unsigned d = lane; d < depth; d += 32) sum += x[d] * weight[d * stride];
    }
    sum = sum_of_lanes(sum);
    if (lane == 0) out[row] = (step.add != 0 ? out[row] : bias) + sum;
  });
}

template <typename T>
__device__ __forceinline__ void algebra_step(const Tile<T>& tile, const TileStep& step) {
  switch (step.kind) {
    case TileNodeKind::kLinear:
      if (step.channels == 1) column_step(tile, step);
      return;
    case TileNodeKind::kSilu:
      return silu_step(tile, step);
    case TileNodeKind::kNorm:
      return norm_step(tile, step);
    case TileNodeKind::kGate:
      return gate_step(tile, step);
    case TileNodeKind::kAdd:
      return add_step(tile, step);
    case TileNodeKind::kAtomTensor:
      return atom_tensor_step(tile, step);
    case TileNodeKind::kLayerNorm:
      return layer_norm_step(tile, step);
    case TileNodeKind::kSoftScale:
      return soft_scale_step(tile, step);
    case TileNodeKind::kScaleRows:
      return scale_rows_step(tile, step);
    case TileNodeKind::kTimesVector:
      return times_vector_step(tile, step);
    case TileNodeKind::kTrace:
      return trace_step(tile, step);
    case TileNodeKind::kDot:
      return dot_step(tile, step);
    case TileNodeKind::kSquare:
      return square_step(tile, step);
    case TileNodeKind::kGatedSum:
      return gated_sum_step(tile, step);
    case TileNodeKind::kTraceless:
      return traceless_step(tile, step);
  }
}

}  // namespace dtnn::cuda
