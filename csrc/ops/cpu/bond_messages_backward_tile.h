// SPDX-License-Identifier: MIT
// The steps of the backward of bond_messages on a tile of bonds, between its matrix products: for plain numbers, or for
// dual ones, which give second derivatives (message_view.h). g_x stands for the gradient of x; names are those of
// ops/bond_messages.h.
#pragma once

#include "ops/cpu/bond_messages_tile.h"

namespace dtnn {

// Gradients of the outputs; null where one is absent.
template <typename T>
struct OutputGradView {
  const T* scalar;
  const T* vector;
  const T* sum_scalar;
  const T* sum_vector;
  const T* sum_rank2;
};

// Where gradients of bonds go: [E, ...]. The last three are null when they are not needed.
template <typename T>
struct BondGradView {
  T* scalar;
  T* vector;
  T* direction;
  T* envelope;
  T* radial;
};

// Gradients of the atoms' values that one bond contributes, in one row of 18 V + H numbers.
template <typename T>
struct EndGrads {
  T* q_center;      // [3, V]
  T* q_neighbor;    // [3, V]
  T* tau_center;    // [6, V]
  T* tau_neighbor;  // [6, V]
  T* hidden;        // [H], the same for both ends

  EndGrads(T* row, int64_t v)
      : q_center(row),
        q_neighbor(row + 3 * v),
        tau_center(row + 6 * v),
        tau_neighbor(row + 12 * v),
        hidden(row + 18 * v) {}
};

inline int64_t end_grads_width(const MessageShape& s) { return 18 * s.vectors + s.hidden; }

// total [3, V] = the gradient of new_vector, s [6, V] = that of t as a symmetric matrix (off-diagonals halved), and
// scalar [C] that of new_scalar: from the outputs themselves and from the sums at both ends. scratch: [18, V].
template <typename T>
DTNN_ALWAYS_INLINE void gather_output_grads(const MessageView<T>& in, const OutputGradView<T>& grads, int64_t e,
                                            T* __restrict scalar, T* __restrict vector, T* __restrict s, T* scratch) {
  const int64_t v = in.shape.vectors, scalars = in.shape.scalars;
  const int64_t center = in.center[e], neighbor = in.neighbor[e];
  const T at_center = in.counts == nullptr ? T(1) : in.counts[e];
  const T at_neighbor = in.counts == nullptr ? T(1) : in.counts[in.shape.num_bonds + e];
  for (int64_t c = 0; c < scalars; ++c) scalar[c] = grads.scalar == nullptr ? T(0) : grads.scalar[e * scalars + c];
  for (int64_t c = 0; c < 3 * v; ++c) vector[c] = grads.vector == nullptr ? T(0) : grads.vector[e * 3 * v + c];
  if (grads.sum_scalar != nullptr) {
    const T* __restrict a = grads.sum_scalar + center * scalars;
    const T* __restrict b = grads.sum_scalar + neighbor * scalars;
    for (int64_t c = 0; c < scalars; ++c) scalar[c] += at_center * a[c] + at_neighbor * b[c];
  }
  if (grads.sum_vector != nullptr) {
    const T* __restrict a = grads.sum_vector + center * 3 * v;
    const T* b = grads.sum_vector + neighbor * 3 * v;
    if (in.turn != nullptr) {
      turn_components<3, 3, false>(in.turn + 9 * e, b, v, scratch);
      b = scratch;
    }
    const T* __restrict far = b;
    for (int64_t c = 0; c < 3 * v; ++c) vector[c] += at_center * a[c] - at_neighbor * far[c];
  }
  if (grads.sum_rank2 == nullptr) {
    for (int64_t c = 0; c < 6 * v; ++c) s[c] = 0;
    return;
  }
  const T* __restrict a = grads.sum_rank2 + center * 6 * v;
  const T* b = grads.sum_rank2 + neighbor * 6 * v;
  if (in.turn != nullptr) {
    // Gradients of components turn as the matrix with halved off-diagonals does.
    T matrix[36];
    component_rotation(in.turn + 9 * e, matrix);
    for (int64_t c = 0; c < 6 * v; ++c) scratch[c] = (c < 3 * v ? T(1) : T(0.5)) * b[c];
    turn_components<6, 6, false>(matrix, scratch, v, scratch + 6 * v);
    for (int64_t c = 0; c < 6 * v; ++c) {
      s[c] = at_center * (c < 3 * v ? T(1) : T(0.5)) * a[c] + at_neighbor * scratch[6 * v + c];
    }
    return;
  }
  const T* __restrict far = b;
  for (int64_t c = 0; c < 3 * v; ++c) s[c] = at_center * a[c] + at_neighbor * far[c];
  for (int64_t c = 3 * v; c < 6 * v; ++c) s[c] = T(0.5) * (at_center * a[c] + at_neighbor * far[c]);
}

// Memory of one bond.
template <typename View>
struct BondScratch {
  using T = typename View::Scalar;

  T* scalar;                  // [C]
  T* vector;                  // [3, V]
  T* s;                       // [6, V]
  T* sums;                    // [4 V + C]: products whose sums are gradients of direction and envelope
  typename View::Out turned;  // [18, V]

  // Numbers of the first four.
  static int64_t size(const MessageShape& s) { return 2 * s.scalars + 13 * s.vectors; }
  BondScratch(T* start, typename View::Out turned_room, const MessageShape& shape)
      : scalar(start),
        vector(scalar + shape.scalars),
        s(vector + 3 * shape.vectors),
        sums(s + 6 * shape.vectors),
        turned(turned_room) {}
};

template <typename T>
DTNN_ALWAYS_INLINE T sum_of(const T* values, int64_t count) {
  // Sixteen partial sums fill vectors of any width.
  T sums[16] = {};
  int64_t c = 0;
  for (; c + 16 <= count; c += 16) {
    for (int lane = 0; lane < 16; ++lane) sums[lane] += values[c + lane];
  }
  T total = 0;
  for (int lane = 0; lane < 16; ++lane) total += sums[lane];
  for (; c < count; ++c) total += values[c];
  return total;
}

// From the gradients of the outputs to those of the perceptron's output, g_out [rows, O], and the parts of the other
// gradients that do not pass through the perceptron: g_d, g_m [rows, 3, V], those of the bonds, of the envelope, and
// g_u [rows, 3] so far. The gradients of the outputs themselves are plain numbers.
template <typename View, typename T = typename View::Scalar>
DTNN_ALWAYS_INLINE void message_grads(const View& in, const OutputGradView<T>& grads, const BondGradView<T>& bond_grads,
                                      BondRange bonds, typename View::Row out, typename View::Row d,
                                      typename View::Row m, typename View::Out g_out, typename View::Out g_d,
                                      typename View::Out g_m, T* g_u, const BondScratch<View>& scratch) {
  using Row = typename View::Row;
  using Number = typename View::Number;
  using Result = typename View::Result;
  const int64_t v = in.shape.vectors, scalars = in.shape.scalars, outputs = in.shape.outputs();
  for (int64_t e = bonds.first, row = 0; e < bonds.last; ++e, ++row) {
    gather_output_grads(in.plain(), grads, e, scratch.scalar, scratch.vector, scratch.s, plain_numbers(scratch.turned));
    const Row u = in.direction_of(e);
    const Number ux = u[0], uy = u[1], uz = u[2];
    const Number envelope = in.envelope_of(e);
    const Row raw = out + row * outputs, bias = in.output_bias();
    const T* __restrict gs = scratch.scalar;
    const typename View::Out to = g_out + row * outputs;
    const Result to_scalar(bond_grads.scalar + e * scalars);
#pragma GCC ivdep
    for (int64_t c = 0; c < scalars; ++c) {
      to[c] = envelope * gs[c];
      to_scalar[c] = gs[c];
    }
    const Row y = raw + scalars, y_bias = bias + scalars;
    const Row b = in.vector_of(e), dd = d + row * 3 * v, mm = m + row * 3 * v;
    const T* __restrict gv = scratch.vector;
    const T* __restrict s = scratch.s;
    const typename View::Out to_y = to + scalars, to_d = g_d + row * 3 * v, to_m = g_m + row * 3 * v;
    const Result to_b(bond_grads.vector + e * 3 * v), sums(scratch.sums);
#pragma GCC ivdep
    for (int64_t c = 0; c < v; ++c) {
      const Number o1 = y[c] + y_bias[c], o2 = y[v + c] + y_bias[v + c], o3 = y[2 * v + c] + y_bias[2 * v + c];
      const Number o4 = y[3 * v + c] + y_bias[3 * v + c], o5 = y[4 * v + c] + y_bias[4 * v + c];
      const Number y1 = envelope * o1, y2 = envelope * o2, y3 = envelope * o3, y4 = envelope * o4, y5 = envelope * o5;
      const Number dx = dd[c], dy = dd[v + c], dz = dd[2 * v + c];
      const Number mx = mm[c], my = mm[v + c], mz = mm[2 * v + c];
      const Number nx = b[c] + y1 * ux + y2 * dx + y3 * mx;
      const Number ny = b[v + c] + y1 * uy + y2 * dy + y3 * my;
      const Number nz = b[2 * v + c] + y1 * uz + y2 * dz + y3 * mz;
      const Number wx = y4 * ux + y5 * nx, wy = y4 * uy + y5 * ny, wz = y4 * uz + y5 * nz;
      const T sxx = s[c], syy = s[v + c], szz = s[2 * v + c], syz = s[3 * v + c], sxz = s[4 * v + c],
              sxy = s[5 * v + c];
      // t = sym(u (x) w): g_w = S u, g_u = S w.
      const Number gwx = sxx * ux + sxy * uy + sxz * uz;
      const Number gwy = sxy * ux + syy * uy + syz * uz;
      const Number gwz = sxz * ux + syz * uy + szz * uz;
      const Number gx = gv[c] + y5 * gwx, gy = gv[v + c] + y5 * gwy, gz = gv[2 * v + c] + y5 * gwz;
      const Number g1 = gx * ux + gy * uy + gz * uz;
      const Number g2 = gx * dx + gy * dy + gz * dz;
      const Number g3 = gx * mx + gy * my + gz * mz;
      const Number g4 = gwx * ux + gwy * uy + gwz * uz;
      const Number g5 = gwx * nx + gwy * ny + gwz * nz;
      to_y[c] = envelope * g1;
      to_y[v + c] = envelope * g2;
      to_y[2 * v + c] = envelope * g3;
      to_y[3 * v + c] = envelope * g4;
      to_y[4 * v + c] = envelope * g5;
      to_b[c] = gx;
      to_b[v + c] = gy;
      to_b[2 * v + c] = gz;
      to_d[c] = y2 * gx;
      to_d[v + c] = y2 * gy;
      to_d[2 * v + c] = y2 * gz;
      to_m[c] = y3 * gx;
      to_m[v + c] = y3 * gy;
      to_m[2 * v + c] = y3 * gz;
      sums[c] = y1 * gx + y4 * gwx + (sxx * wx + sxy * wy + sxz * wz);
      sums[v + c] = y1 * gy + y4 * gwy + (sxy * wx + syy * wy + syz * wz);
      sums[2 * v + c] = y1 * gz + y4 * gwz + (sxz * wx + syz * wy + szz * wz);
      sums[3 * v + c] = g1 * o1 + g2 * o2 + g3 * o3 + g4 * o4 + g5 * o5;
    }
    if (bond_grads.direction != nullptr) {
      for (int k = 0; k < 3; ++k) g_u[3 * row + k] = sum_of(scratch.sums + k * v, v);
      const Result products(scratch.sums + 4 * v);
#pragma GCC ivdep
      for (int64_t c = 0; c < scalars; ++c) products[c] = gs[c] * (raw[c] + bias[c]);
      bond_grads.envelope[e] = sum_of(scratch.sums + 4 * v, scalars) + sum_of(scratch.sums + 3 * v, v);
    }
  }
}

// From the gradients of the features, g_features [rows, F], to those of the bonds and of both ends' values, `ends`
// [rows, end_grads_width].
template <typename View, typename T = typename View::Scalar>
DTNN_ALWAYS_INLINE void feature_grads(const View& in, const BondGradView<T>& bond_grads, BondRange bonds,
                                      typename View::Row g_features, typename View::Row d, typename View::Row m,
                                      typename View::Row g_d, typename View::Row g_m, const T* g_u, T* ends,
                                      const BondScratch<View>& scratch) {
  using Row = typename View::Row;
  using Number = typename View::Number;
  using Result = typename View::Result;
  const int64_t v = in.shape.vectors, scalars = in.shape.scalars, radial = in.shape.radial;
  for (int64_t e = bonds.first, row = 0; e < bonds.last; ++e, ++row) {
    const Row u = in.direction_of(e);
    const Number ux = u[0], uy = u[1], uz = u[2];
    const NeighborValues<View> far = neighbor_values(in, e, scratch.turned);
    const Row qc = in.q_of(in.center[e]), tc = in.tau_of(in.center[e]), qn = far.q, tn = far.tau, b = in.vector_of(e);
    const Row of_scalar = g_features + row * in.shape.features(), gf = of_scalar + scalars;
    const Result to_scalar(bond_grads.scalar + e * scalars);
#pragma GCC ivdep
    for (int64_t c = 0; c < scalars; ++c) to_scalar[c] += of_scalar[c];
    const EndGrads<T> end(ends + row * end_grads_width(in.shape), v);
    const Result to_qc(end.q_center), to_qn(end.q_neighbor), to_tc(end.tau_center), to_tn(end.tau_neighbor);
    const Result to_b(bond_grads.vector + e * 3 * v), sums(scratch.sums);
    const Row dd = d + row * 3 * v, mm = m + row * 3 * v, gd = g_d + row * 3 * v, gm = g_m + row * 3 * v;
#pragma GCC ivdep
    for (int64_t c = 0; c < v; ++c) {
      const Number g1 = gf[c], g2 = gf[v + c], g3 = gf[2 * v + c], g4 = gf[3 * v + c], g5 = gf[4 * v + c];
      const Number gdx = gd[c] + g1 * ux, gdy = gd[v + c] + g1 * uy, gdz = gd[2 * v + c] + g1 * uz;
      to_qn[c] = gdx + g2 * qc[c];
      to_qn[v + c] = gdy + g2 * qc[v + c];
      to_qn[2 * v + c] = gdz + g2 * qc[2 * v + c];
      to_qc[c] = g2 * qn[c] - gdx;
      to_qc[v + c] = g2 * qn[v + c] - gdy;
      to_qc[2 * v + c] = g2 * qn[2 * v + c] - gdz;
      // m = (tau_c + tau_n) u
      const Number gmx = gm[c] + g3 * ux, gmy = gm[v + c] + g3 * uy, gmz = gm[2 * v + c] + g3 * uz;
      const Number xx = gmx * ux, yy = gmy * uy, zz = gmz * uz;
      const Number yz = gmy * uz + gmz * uy, xz = gmx * uz + gmz * ux, xy = gmx * uy + gmy * ux;
      const Number g4_twice = T(2) * g4;
      to_tc[c] = xx + g4 * tn[c];
      to_tc[v + c] = yy + g4 * tn[v + c];
      to_tc[2 * v + c] = zz + g4 * tn[2 * v + c];
      to_tc[3 * v + c] = yz + g4_twice * tn[3 * v + c];
      to_tc[4 * v + c] = xz + g4_twice * tn[4 * v + c];
      to_tc[5 * v + c] = xy + g4_twice * tn[5 * v + c];
      to_tn[c] = xx + g4 * tc[c];
      to_tn[v + c] = yy + g4 * tc[v + c];
      to_tn[2 * v + c] = zz + g4 * tc[2 * v + c];
      to_tn[3 * v + c] = yz + g4_twice * tc[3 * v + c];
      to_tn[4 * v + c] = xz + g4_twice * tc[4 * v + c];
      to_tn[5 * v + c] = xy + g4_twice * tc[5 * v + c];
      to_b[c] += g5 * ux;
      to_b[v + c] += g5 * uy;
      to_b[2 * v + c] += g5 * uz;
      const Number sxx = tc[c] + tn[c], syy = tc[v + c] + tn[v + c], szz = tc[2 * v + c] + tn[2 * v + c];
      const Number syz = tc[3 * v + c] + tn[3 * v + c], sxz = tc[4 * v + c] + tn[4 * v + c],
                   sxy = tc[5 * v + c] + tn[5 * v + c];
      // g_u: from u . d, from u . m (u itself), through m, and from u . b.
      sums[c] = g1 * dd[c] + g3 * mm[c] + (sxx * gmx + sxy * gmy + sxz * gmz) + g5 * b[c];
      sums[v + c] = g1 * dd[v + c] + g3 * mm[v + c] + (sxy * gmx + syy * gmy + syz * gmz) + g5 * b[v + c];
      sums[2 * v + c] =
          g1 * dd[2 * v + c] + g3 * mm[2 * v + c] + (sxz * gmx + syz * gmy + szz * gmz) + g5 * b[2 * v + c];
    }
    if (bond_grads.direction != nullptr) {
      for (int k = 0; k < 3; ++k) bond_grads.direction[3 * e + k] = g_u[3 * row + k] + sum_of(scratch.sums + k * v, v);
      const Result to_radial(bond_grads.radial + e * radial);
      for (int64_t c = 0; c < radial; ++c) to_radial[c] = gf[5 * v + c];
    }
    if (in.turn != nullptr) {  // back into the frame of the stored neighbor
      T matrix[36];
      component_rotation(in.turn + 9 * e, matrix);
      T* turned = plain_numbers(scratch.turned);
      turn_components<3, 3, true>(in.turn + 9 * e, end.q_neighbor, v, turned);
      turn_components<6, 6, true>(matrix, end.tau_neighbor, v, turned + 3 * v);
      std::copy_n(turned, 3 * v, end.q_neighbor);
      std::copy_n(turned + 3 * v, 6 * v, end.tau_neighbor);
    }
  }
}

// g_pre = g_hidden * slope [rows, H], in place and into the ends' rows.
template <typename View, typename T = typename View::Scalar>
DTNN_ALWAYS_INLINE void hidden_grads(const View& in, BondRange bonds, typename View::Row slope,
                                     typename View::Out g_hidden, T* ends) {
  const int64_t h = in.shape.hidden;
  for (int64_t e = bonds.first, row = 0; e < bonds.last; ++e, ++row) {
    const typename View::Row factor = slope + row * h;
    const typename View::Out grad = g_hidden + row * h;
    const typename View::Result to(EndGrads<T>(ends + row * end_grads_width(in.shape), in.shape.vectors).hidden);
#pragma GCC ivdep
    for (int64_t c = 0; c < h; ++c) {
      const typename View::Number g = grad[c] * factor[c];
      grad[c] = g;
      to[c] = g;
    }
  }
}

template <typename T>
struct AtomGradView {
  T* q;
  T* tau;
  T* hidden;
};

// Adds what one bond contributes to the atom at its center (side 0) or neighbor (side 1).
template <typename T>
DTNN_ALWAYS_INLINE void add_end_grads(const MessageView<T>& in, int64_t e, int side, T* row,
                                      const AtomGradView<T>& grads) {
  const int64_t v = in.shape.vectors, h = in.shape.hidden;
  const EndGrads<T> end(row, v);
  const int64_t atom = side == 0 ? in.center[e] : in.neighbor[e];
  const T* __restrict q = side == 0 ? end.q_center : end.q_neighbor;
  const T* __restrict tau = side == 0 ? end.tau_center : end.tau_neighbor;
  const T* __restrict hidden = end.hidden;
  T* __restrict to_q = grads.q + atom * 3 * v;
  T* __restrict to_tau = grads.tau + atom * 6 * v;
  T* __restrict to_hidden = grads.hidden + atom * h;
  for (int64_t c = 0; c < 3 * v; ++c) to_q[c] += q[c];
  for (int64_t c = 0; c < 6 * v; ++c) to_tau[c] += tau[c];
  for (int64_t c = 0; c < h; ++c) to_hidden[c] += hidden[c];
}

template <typename T>
DTNN_ALWAYS_INLINE void add_grads_to_atoms(const MessageView<T>& in, BondRange bonds, T* ends,
                                           const AtomGradView<T>& grads) {
  for (int64_t e = bonds.first; e < bonds.last; ++e, ends += end_grads_width(in.shape)) {
    add_end_grads(in, e, 0, ends, grads);
    add_end_grads(in, e, 1, ends, grads);
  }
}

// sums [width] += the rows of values [rows, width].
template <typename T>
DTNN_ALWAYS_INLINE void add_rows(const T* values, int64_t rows, int64_t width, T* __restrict sums) {
  for (int64_t r = 0; r < rows; ++r, values += width) {
    const T* __restrict row = values;
    for (int64_t c = 0; c < width; ++c) sums[c] += row[c];
  }
}

}  // namespace dtnn
