// SPDX-License-Identifier: MIT
// What the forward and the backward of bond_messages do with a few bonds that stay in cache between two matrix
// products. Names are those of ops/bond_messages.h. Loops run over channels, which lie next to each other.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/sigmoid.h"
#include "core/simd_level.h"
#include "core/wide.h"
#include "ops/bond_messages.h"

namespace dtnn {

template <typename T>
struct MessageView {
  MessageShape shape;
  const T* q;
  const T* tau;
  const T* atom_hidden;
  const T* bond_scalar;
  const T* bond_vector;
  const T* direction;
  const T* envelope;
  const T* radial;
  const T* hidden_bias;
  const T* out_bias;
  const int64_t* center;
  const int64_t* neighbor;
  const T* turn;    // [E, 3, 3], null without turns
  const T* counts;  // [2, E], null without turns

  explicit MessageView(const MessageShape& s, const MessageInputs& in)
      : shape(s),
        q(in.q.const_data_ptr<T>()),
        tau(in.tau.const_data_ptr<T>()),
        atom_hidden(in.atom_hidden.const_data_ptr<T>()),
        bond_scalar(in.bond_scalar.const_data_ptr<T>()),
        bond_vector(in.bond_vector.const_data_ptr<T>()),
        direction(in.direction.const_data_ptr<T>()),
        envelope(in.envelope.const_data_ptr<T>()),
        radial(in.radial.const_data_ptr<T>()),
        hidden_bias(in.hidden_bias.const_data_ptr<T>()),
        out_bias(in.out_bias.const_data_ptr<T>()),
        center(in.ends.pairs.const_data_ptr<int64_t>()),
        neighbor(center + s.num_bonds),
        turn(data_or_null<T>(in.turn)),
        counts(data_or_null<T>(in.turn_counts)) {}
};

struct BondRange {
  int64_t first;
  int64_t last;

  int64_t size() const { return last - first; }
};

// to [rows, channels] = matrix [rows, inner] times from [inner, channels]; with `transposed`, the transpose of matrix.
template <int rows, int inner, bool transposed, typename T>
DTNN_ALWAYS_INLINE void turn_components(const T* matrix, const T* __restrict from, int64_t channels, T* __restrict to) {
  for (int a = 0; a < rows; ++a) {
    for (int64_t c = 0; c < channels; ++c) {
      T sum = 0;
#pragma GCC unroll 6
      for (int b = 0; b < inner; ++b)
        sum += (transposed ? matrix[b * rows + a] : matrix[a * inner + b]) * from[b * channels + c];
      to[a * channels + c] = sum;
    }
  }
}

constexpr int kRow[6] = {0, 1, 2, 1, 0, 0};
constexpr int kColumn[6] = {0, 1, 2, 2, 2, 1};

// The matrix [6, 6] of t -> R t R^T on the six components.
template <typename T>
DTNN_ALWAYS_INLINE void component_rotation(const T* r, T* out) {
  for (int k = 0; k < 6; ++k) {
    for (int l = 0; l < 6; ++l) {
      const T direct = r[3 * kRow[k] + kRow[l]] * r[3 * kColumn[k] + kColumn[l]];
      const T swapped = r[3 * kRow[k] + kColumn[l]] * r[3 * kColumn[k] + kRow[l]];
      out[6 * k + l] = l < 3 ? direct : direct + swapped;
    }
  }
}

// q and tau of the neighbor of bond e as the bond sees them: where they are, or turned into `scratch` [9, V].
template <typename T>
struct NeighborValues {
  const T* q;
  const T* tau;
};
template <typename T>
DTNN_ALWAYS_INLINE NeighborValues<T> neighbor_values(const MessageView<T>& in, int64_t e, T* scratch) {
  const int64_t v = in.shape.vectors, n = in.neighbor[e];
  const T* q = in.q + n * 3 * v;
  const T* tau = in.tau + n * 6 * v;
  if (in.turn == nullptr) return {q, tau};
  T matrix[36];
  component_rotation(in.turn + 9 * e, matrix);
  turn_components<3, 3, false>(in.turn + 9 * e, q, v, scratch);
  turn_components<6, 6, false>(matrix, tau, v, scratch + 3 * v);
  return {scratch, scratch + 3 * v};
}

// Features [rows, F], and for later d and m [rows, 3, V] each.
template <typename T>
DTNN_ALWAYS_INLINE void features_of_bonds(const MessageView<T>& in, BondRange bonds, T* features, T* d, T* m,
                                          T* scratch) {
  const int64_t v = in.shape.vectors, scalars = in.shape.scalars, radial = in.shape.radial;
  for (int64_t e = bonds.first; e < bonds.last; ++e, d += 3 * v, m += 3 * v, features += in.shape.features()) {
    const T ux = in.direction[3 * e], uy = in.direction[3 * e + 1], uz = in.direction[3 * e + 2];
    const NeighborValues<T> far = neighbor_values(in, e, scratch);
    const T* __restrict qc = in.q + in.center[e] * 3 * v;
    const T* __restrict tc = in.tau + in.center[e] * 6 * v;
    const T* __restrict qn = far.q;
    const T* __restrict tn = far.tau;
    const T* __restrict b = in.bond_vector + e * 3 * v;
    T* __restrict dd = d;
    T* __restrict mm = m;
    T* __restrict f = features + scalars;
    for (int64_t c = 0; c < v; ++c) {
      const T cx = qc[c], cy = qc[v + c], cz = qc[2 * v + c];
      const T nx = qn[c], ny = qn[v + c], nz = qn[2 * v + c];
      const T dx = nx - cx, dy = ny - cy, dz = nz - cz;
      dd[c] = dx;
      dd[v + c] = dy;
      dd[2 * v + c] = dz;
      f[c] = ux * dx + uy * dy + uz * dz;
      f[v + c] = cx * nx + cy * ny + cz * nz;
      const T xx = tc[c], yy = tc[v + c], zz = tc[2 * v + c], yz = tc[3 * v + c], xz = tc[4 * v + c],
              xy = tc[5 * v + c];
      const T nxx = tn[c], nyy = tn[v + c], nzz = tn[2 * v + c], nyz = tn[3 * v + c], nxz = tn[4 * v + c],
              nxy = tn[5 * v + c];
      const T sxx = xx + nxx, syy = yy + nyy, szz = zz + nzz, syz = yz + nyz, sxz = xz + nxz, sxy = xy + nxy;
      const T mx = sxx * ux + sxy * uy + sxz * uz;
      const T my = sxy * ux + syy * uy + syz * uz;
      const T mz = sxz * ux + syz * uy + szz * uz;
      mm[c] = mx;
      mm[v + c] = my;
      mm[2 * v + c] = mz;
      f[2 * v + c] = ux * mx + uy * my + uz * mz;
      f[3 * v + c] = xx * nxx + yy * nyy + zz * nzz + T(2) * (yz * nyz + xz * nxz + xy * nxy);
      f[4 * v + c] = ux * b[c] + uy * b[v + c] + uz * b[2 * v + c];
    }
    // Not memcpy, which must not be given the null pointer of an empty tensor.
    std::copy_n(in.bond_scalar + e * scalars, scalars, features);
    std::copy_n(in.radial + e * radial, radial, features + scalars + 5 * v);
  }
}

// The channels from c on that fill a V: hidden = silu(hidden + bias + what both atoms add), and the slope of silu.
template <typename V, bool with_slope, typename T>
DTNN_ALWAYS_INLINE void activate_channels(const T* bias, const T* at_center, const T* at_neighbor, int64_t c, T* hidden,
                                          T* slope) {
  V x, more, scale;
  load(x, hidden + c);
  load(more, bias + c);
  x = x + more;
  load(more, at_center + c);
  x = x + more;
  load(more, at_neighbor + c);
  x = x + more;
  sigmoid<T>(x, scale);
  const V activated = x * scale;
  store(hidden + c, activated);
  if (!with_slope) return;
  const V change = scale + activated * (T(1) - scale);
  store(slope + c, change);
}

template <int bytes, bool with_slope, typename T>
DTNN_ALWAYS_INLINE void activate_bonds(const MessageView<T>& in, BondRange bonds, T* hidden, T* slope) {
  using Many = Wide<T, bytes>;
  constexpr int64_t lanes = lanes_in<Many, T>;
  const int64_t h = in.shape.hidden;
  for (int64_t e = bonds.first; e < bonds.last; ++e, hidden += h, slope += with_slope ? h : 0) {
    const T* at_center = in.atom_hidden + in.center[e] * h;
    const T* at_neighbor = in.atom_hidden + in.neighbor[e] * h;
    int64_t c = 0;
    for (; c + lanes <= h; c += lanes) {
      activate_channels<Many, with_slope>(in.hidden_bias, at_center, at_neighbor, c, hidden, slope);
    }
    for (; c < h; ++c) activate_channels<T, with_slope>(in.hidden_bias, at_center, at_neighbor, c, hidden, slope);
  }
}

// new_scalar, new_vector (of the bonds' own rows) and w = y_4 u + y_5 new_vector [rows, 3, V] from the perceptron's
// output [rows, O].
template <typename T>
DTNN_ALWAYS_INLINE void new_bonds(const MessageView<T>& in, BondRange bonds, const T* out, const T* d, const T* m,
                                  T* new_scalar, T* new_vector, T* w) {
  const int64_t v = in.shape.vectors, scalars = in.shape.scalars;
  for (int64_t e = bonds.first; e < bonds.last; ++e, d += 3 * v, m += 3 * v, w += 3 * v, out += in.shape.outputs()) {
    const T ux = in.direction[3 * e], uy = in.direction[3 * e + 1], uz = in.direction[3 * e + 2];
    const T envelope = in.envelope[e];
    const T* __restrict before = in.bond_scalar + e * scalars;
    const T* __restrict raw = out;
    const T* __restrict bias = in.out_bias;
    T* __restrict scalar = new_scalar + e * scalars;
    for (int64_t c = 0; c < scalars; ++c) scalar[c] = before[c] + envelope * (raw[c] + bias[c]);
    const T* __restrict y = out + scalars;
    const T* __restrict y_bias = in.out_bias + scalars;
    const T* __restrict b = in.bond_vector + e * 3 * v;
    const T* __restrict dd = d;
    const T* __restrict mm = m;
    T* __restrict vector = new_vector + e * 3 * v;
    T* __restrict ww = w;
    for (int64_t c = 0; c < v; ++c) {
      const T y1 = envelope * (y[c] + y_bias[c]), y2 = envelope * (y[v + c] + y_bias[v + c]);
      const T y3 = envelope * (y[2 * v + c] + y_bias[2 * v + c]), y4 = envelope * (y[3 * v + c] + y_bias[3 * v + c]);
      const T y5 = envelope * (y[4 * v + c] + y_bias[4 * v + c]);
      const T x = b[c] + y1 * ux + y2 * dd[c] + y3 * mm[c];
      const T yy = b[v + c] + y1 * uy + y2 * dd[v + c] + y3 * mm[v + c];
      const T z = b[2 * v + c] + y1 * uz + y2 * dd[2 * v + c] + y3 * mm[2 * v + c];
      vector[c] = x;
      vector[v + c] = yy;
      vector[2 * v + c] = z;
      ww[c] = y4 * ux + y5 * x;
      ww[v + c] = y4 * uy + y5 * yy;
      ww[2 * v + c] = y4 * uz + y5 * z;
    }
  }
}

template <typename T>
struct MessageSums {
  T* scalar;
  T* vector;
  T* rank2;
};

// Adds count times bond e to the atom: scalars, sign * vectors, and sym(u (x) w).
template <typename T>
DTNN_ALWAYS_INLINE void add_bond(const MessageView<T>& in, int64_t atom, T count, T sign, const T* u, const T* scalar,
                                 const T* vector, const T* w, const MessageSums<T>& sums) {
  const int64_t v = in.shape.vectors, scalars = in.shape.scalars;
  T* __restrict to = sums.scalar + atom * scalars;
  const T* __restrict from = scalar;
  for (int64_t c = 0; c < scalars; ++c) to[c] += count * from[c];
  T* __restrict to_vector = sums.vector + atom * 3 * v;
  const T* __restrict from_vector = vector;
  const T signed_count = count * sign;
  for (int64_t c = 0; c < 3 * v; ++c) to_vector[c] += signed_count * from_vector[c];
  T* __restrict t = sums.rank2 + atom * 6 * v;
  const T* __restrict ww = w;
  const T ux = count * u[0], uy = count * u[1], uz = count * u[2];
  const T hx = T(0.5) * ux, hy = T(0.5) * uy, hz = T(0.5) * uz;
  for (int64_t c = 0; c < v; ++c) {
    const T x = ww[c], y = ww[v + c], z = ww[2 * v + c];
    t[c] += ux * x;
    t[v + c] += uy * y;
    t[2 * v + c] += uz * z;
    t[3 * v + c] += hy * z + hz * y;
    t[4 * v + c] += hx * z + hz * x;
    t[5 * v + c] += hx * y + hy * x;
  }
}

// Adds bond e to the atom at its center (side 0) or neighbor (side 1). `w` is that of the bond, scratch [6, V].
template <typename T>
DTNN_ALWAYS_INLINE void add_to_side(const MessageView<T>& in, int64_t e, int side, const T* new_scalar,
                                    const T* new_vector, const T* w, const MessageSums<T>& sums, T* scratch) {
  const int64_t v = in.shape.vectors;
  const T* u = in.direction + 3 * e;
  const T* scalar = new_scalar + e * in.shape.scalars;
  const T* vector = new_vector + e * 3 * v;
  if (in.turn == nullptr) {
    return add_bond(in, side == 0 ? in.center[e] : in.neighbor[e], T(1), side == 0 ? T(1) : T(-1), u, scalar, vector, w,
                    sums);
  }
  const T count = in.counts[side * in.shape.num_bonds + e];
  if (side == 0) return add_bond(in, in.center[e], count, T(1), u, scalar, vector, w, sums);
  const T* turn = in.turn + 9 * e;
  T turned_u[3];
  turn_components<3, 3, true>(turn, u, 1, turned_u);
  turn_components<3, 3, true>(turn, vector, v, scratch);
  turn_components<3, 3, true>(turn, w, v, scratch + 3 * v);
  add_bond(in, in.neighbor[e], count, T(-1), turned_u, scalar, scratch, scratch + 3 * v, sums);
}

template <typename T>
DTNN_ALWAYS_INLINE void add_bonds_to_atoms(const MessageView<T>& in, BondRange bonds, const T* new_scalar,
                                           const T* new_vector, const T* w, const MessageSums<T>& sums, T* scratch) {
  for (int64_t e = bonds.first; e < bonds.last; ++e, w += 3 * in.shape.vectors) {
    add_to_side(in, e, 0, new_scalar, new_vector, w, sums, scratch);
    add_to_side(in, e, 1, new_scalar, new_vector, w, sums, scratch);
  }
}

}  // namespace dtnn
