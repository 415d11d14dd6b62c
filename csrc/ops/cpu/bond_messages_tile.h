// SPDX-License-Identifier: MIT
// What the forward and the backward of bond_messages do with a few bonds that stay in cache between two matrix
// products. Names are those of ops/bond_messages.h. Loops run over channels, which lie next to each other.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/sigmoid.h"
#include "core/simd_level.h"
#include "core/wide.h"
#include "ops/cpu/message_view.h"

namespace dtnn {

// Not memcpy, which must not be given the null pointer of an empty tensor.
template <typename T>
DTNN_ALWAYS_INLINE void copy_row(const T* from, int64_t size, T* to) {
  std::copy_n(from, size, to);
}
template <typename T>
DTNN_ALWAYS_INLINE void copy_row(DualRow<T> from, int64_t size, DualOut<T> to) {
  std::copy_n(from.value, size, to.value);
  std::copy_n(from.change, size, to.change);
}

// Features [rows, F], and for later d and m [rows, 3, V] each.
template <typename View>
DTNN_ALWAYS_INLINE void features_of_bonds(const View& in, BondRange bonds, typename View::Out features,
                                          typename View::Out d, typename View::Out m, typename View::Out scratch) {
  using Row = typename View::Row;
  using Out = typename View::Out;
  using Number = typename View::Number;
  using T = typename View::Scalar;
  const int64_t v = in.shape.vectors, scalars = in.shape.scalars, radial = in.shape.radial;
  for (int64_t e = bonds.first, row = 0; e < bonds.last; ++e, ++row) {
    const Row u = in.direction_of(e);
    const Number ux = u[0], uy = u[1], uz = u[2];
    const NeighborValues<View> far = neighbor_values(in, e, scratch);
    const Row qc = in.q_of(in.center[e]), tc = in.tau_of(in.center[e]), qn = far.q, tn = far.tau, b = in.vector_of(e);
    const Out dd = d + row * 3 * v, mm = m + row * 3 * v, all = features + row * in.shape.features(), f = all + scalars;
#pragma GCC ivdep
    for (int64_t c = 0; c < v; ++c) {
      const Number cx = qc[c], cy = qc[v + c], cz = qc[2 * v + c];
      const Number nx = qn[c], ny = qn[v + c], nz = qn[2 * v + c];
      const Number dx = nx - cx, dy = ny - cy, dz = nz - cz;
      dd[c] = dx;
      dd[v + c] = dy;
      dd[2 * v + c] = dz;
      f[c] = ux * dx + uy * dy + uz * dz;
      f[v + c] = cx * nx + cy * ny + cz * nz;
      const Number xx = tc[c], yy = tc[v + c], zz = tc[2 * v + c], yz = tc[3 * v + c], xz = tc[4 * v + c],
                   xy = tc[5 * v + c];
      const Number nxx = tn[c], nyy = tn[v + c], nzz = tn[2 * v + c], nyz = tn[3 * v + c], nxz = tn[4 * v + c],
                   nxy = tn[5 * v + c];
      const Number sxx = xx + nxx, syy = yy + nyy, szz = zz + nzz, syz = yz + nyz, sxz = xz + nxz, sxy = xy + nxy;
      const Number mx = sxx * ux + sxy * uy + sxz * uz;
      const Number my = sxy * ux + syy * uy + syz * uz;
      const Number mz = sxz * ux + syz * uy + szz * uz;
      mm[c] = mx;
      mm[v + c] = my;
      mm[2 * v + c] = mz;
      f[2 * v + c] = ux * mx + uy * my + uz * mz;
      f[3 * v + c] = xx * nxx + yy * nyy + zz * nzz + T(2) * (yz * nyz + xz * nxz + xy * nxy);
      f[4 * v + c] = ux * b[c] + uy * b[v + c] + uz * b[2 * v + c];
    }
    copy_row(in.scalar_of(e), scalars, all);
    copy_row(in.radial_of(e), radial, f + 5 * v);
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
template <typename View>
DTNN_ALWAYS_INLINE void new_bonds(const View& in, BondRange bonds, typename View::Row out, typename View::Row d,
                                  typename View::Row m, typename View::Scalar* new_scalar,
                                  typename View::Scalar* new_vector, typename View::Out w) {
  using Row = typename View::Row;
  using Number = typename View::Number;
  using Result = typename View::Result;
  const int64_t v = in.shape.vectors, scalars = in.shape.scalars;
  for (int64_t e = bonds.first, row = 0; e < bonds.last; ++e, ++row) {
    const Row u = in.direction_of(e);
    const Number ux = u[0], uy = u[1], uz = u[2];
    const Number envelope = in.envelope_of(e);
    const Row before = in.scalar_of(e), raw = out + row * in.shape.outputs(), bias = in.output_bias();
    const Result scalar(new_scalar + e * scalars);
#pragma GCC ivdep
    for (int64_t c = 0; c < scalars; ++c) scalar[c] = before[c] + envelope * (raw[c] + bias[c]);
    const Row y = raw + scalars, y_bias = bias + scalars;
    const Row b = in.vector_of(e), dd = d + row * 3 * v, mm = m + row * 3 * v;
    const Result vector(new_vector + e * 3 * v);
    const typename View::Out ww = w + row * 3 * v;
#pragma GCC ivdep
    for (int64_t c = 0; c < v; ++c) {
      const Number y1 = envelope * (y[c] + y_bias[c]), y2 = envelope * (y[v + c] + y_bias[v + c]);
      const Number y3 = envelope * (y[2 * v + c] + y_bias[2 * v + c]);
      const Number y4 = envelope * (y[3 * v + c] + y_bias[3 * v + c]);
      const Number y5 = envelope * (y[4 * v + c] + y_bias[4 * v + c]);
      const Number x = b[c] + y1 * ux + y2 * dd[c] + y3 * mm[c];
      const Number yy = b[v + c] + y1 * uy + y2 * dd[v + c] + y3 * mm[v + c];
      const Number z = b[2 * v + c] + y1 * uz + y2 * dd[2 * v + c] + y3 * mm[2 * v + c];
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

// Adds count times bond e to the atom: scalars, sign * vectors, and sym(u (x) w). Of dual numbers all that is added is
// the change, and `scalar` and `vector` are changes.
template <typename View>
DTNN_ALWAYS_INLINE void add_bond(const View& in, int64_t atom, typename View::Scalar count, typename View::Scalar sign,
                                 const typename View::Number (&u)[3], const typename View::Scalar* scalar,
                                 const typename View::Scalar* vector, typename View::Row w,
                                 const MessageSums<typename View::Scalar>& sums) {
  using T = typename View::Scalar;
  using Number = typename View::Number;
  const int64_t v = in.shape.vectors, scalars = in.shape.scalars;
  T* __restrict to = sums.scalar + atom * scalars;
  const T* __restrict from = scalar;
  for (int64_t c = 0; c < scalars; ++c) to[c] += count * from[c];
  T* __restrict to_vector = sums.vector + atom * 3 * v;
  const T* __restrict from_vector = vector;
  const T signed_count = count * sign;
  for (int64_t c = 0; c < 3 * v; ++c) to_vector[c] += signed_count * from_vector[c];
  const typename View::Result t(sums.rank2 + atom * 6 * v);
  const typename View::Row ww = w;
  const Number ux = count * u[0], uy = count * u[1], uz = count * u[2];
  const Number hx = T(0.5) * ux, hy = T(0.5) * uy, hz = T(0.5) * uz;
#pragma GCC ivdep
  for (int64_t c = 0; c < v; ++c) {
    const Number x = ww[c], y = ww[v + c], z = ww[2 * v + c];
    t[c] += ux * x;
    t[v + c] += uy * y;
    t[2 * v + c] += uz * z;
    t[3 * v + c] += hy * z + hz * y;
    t[4 * v + c] += hx * z + hz * x;
    t[5 * v + c] += hx * y + hy * x;
  }
}

template <typename T>
DTNN_ALWAYS_INLINE T* plain_numbers(T* row) {
  return row;
}
template <typename T>
DTNN_ALWAYS_INLINE T* plain_numbers(DualOut<T> row) {
  return row.value;
}

// Adds bond e to the atom at its center (side 0) or neighbor (side 1). `w` is that of the bond, scratch [6, V].
template <typename View>
DTNN_ALWAYS_INLINE void add_to_side(const View& in, int64_t e, int side, const typename View::Scalar* new_scalar,
                                    const typename View::Scalar* new_vector, typename View::Row w,
                                    const MessageSums<typename View::Scalar>& sums, typename View::Out scratch) {
  using T = typename View::Scalar;
  const int64_t v = in.shape.vectors;
  const typename View::Row direction = in.direction_of(e);
  const typename View::Number u[3] = {direction[0], direction[1], direction[2]};
  const T* scalar = new_scalar + e * in.shape.scalars;
  const T* vector = new_vector + e * 3 * v;
  if (in.turn == nullptr) {
    return add_bond(in, side == 0 ? in.center[e] : in.neighbor[e], T(1), side == 0 ? T(1) : T(-1), u, scalar, vector, w,
                    sums);
  }
  const T count = in.counts[side * in.shape.num_bonds + e];
  if (side == 0) return add_bond(in, in.center[e], count, T(1), u, scalar, vector, w, sums);
  const T* turn = in.turn + 9 * e;
  typename View::Number turned_u[3];
  T* turned_vector = plain_numbers(scratch);
  const typename View::Out turned_w = scratch + 3 * v;
  turn_components<3, 3, true>(turn, u, 1, turned_u);
  turn_components<3, 3, true>(turn, vector, v, turned_vector);
  turn_components<3, 3, true>(turn, w, v, turned_w);
  add_bond(in, in.neighbor[e], count, T(-1), turned_u, scalar, turned_vector, turned_w, sums);
}

template <typename View>
DTNN_ALWAYS_INLINE void add_bonds_to_atoms(const View& in, BondRange bonds, const typename View::Scalar* new_scalar,
                                           const typename View::Scalar* new_vector, typename View::Row w,
                                           const MessageSums<typename View::Scalar>& sums, typename View::Out scratch) {
  for (int64_t e = bonds.first, row = 0; e < bonds.last; ++e, ++row) {
    const typename View::Row of_bond = w + row * 3 * in.shape.vectors;
    add_to_side(in, e, 0, new_scalar, new_vector, of_bond, sums, scratch);
    add_to_side(in, e, 1, new_scalar, new_vector, of_bond, sums, scratch);
  }
}

}  // namespace dtnn
