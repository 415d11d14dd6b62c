// SPDX-License-Identifier: MIT
// What the steps of bond_messages read of atoms and bonds, as plain numbers (MessageView: forward and backward) or as
// dual numbers (DualMessageView: second derivatives). The steps are the same code for both. They use
//   Number  a number or a Dual
//   Row     numbers to read
//   Out     numbers to write and to read later
//   Result  where the results are written: of dual numbers the changes alone
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/dual.h"
#include "core/simd_level.h"
#include "ops/bond_messages.h"

namespace dtnn {

struct BondRange {
  int64_t first;
  int64_t last;

  int64_t size() const { return last - first; }
};

template <typename T>
struct MessageView {
  using Scalar = T;
  using Number = T;
  using Row = const T* __restrict;
  using Out = T* __restrict;
  using Result = T* __restrict;

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

  const MessageView& plain() const { return *this; }
  auto q_of(int64_t atom) const { return q + atom * 3 * shape.vectors; }
  auto tau_of(int64_t atom) const { return tau + atom * 6 * shape.vectors; }
  auto scalar_of(int64_t e) const { return bond_scalar + e * shape.scalars; }
  auto vector_of(int64_t e) const { return bond_vector + e * 3 * shape.vectors; }
  auto direction_of(int64_t e) const { return direction + 3 * e; }
  auto radial_of(int64_t e) const { return radial + e * shape.radial; }
  T envelope_of(int64_t e) const { return envelope[e]; }
  auto output_bias() const { return out_bias; }
};

// Directions along which the inputs of bond_messages change; null where one does not. [like the input]
template <typename T>
struct MessageChanges {
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
};

template <typename T>
struct DualMessageView {
  using Scalar = T;
  using Number = Dual<T>;
  using Row = DualRow<T>;
  using Out = DualOut<T>;
  using Result = ChangeOut<T>;

  MessageView<T> values;
  MessageChanges<T> changes;
  const T* zeros;  // as many as the widest row of an input has: the row of an input that does not change
  const MessageShape& shape = values.shape;
  const int64_t* center = values.center;
  const int64_t* neighbor = values.neighbor;
  const T* turn = values.turn;
  const T* counts = values.counts;

  static int64_t num_zeros(const MessageShape& s) {
    return std::max({6 * s.vectors, s.scalars, s.radial, s.hidden, s.outputs(), int64_t{3}});
  }
  const MessageView<T>& plain() const { return values; }
  // Row `index` of an input and of its change.
  Row row(const T* value, const T* change, int64_t index, int64_t width) const {
    return {value + index * width, change == nullptr ? zeros : change + index * width};
  }
  Row q_of(int64_t atom) const { return row(values.q, changes.q, atom, 3 * shape.vectors); }
  Row tau_of(int64_t atom) const { return row(values.tau, changes.tau, atom, 6 * shape.vectors); }
  Row hidden_of(int64_t atom) const { return row(values.atom_hidden, changes.atom_hidden, atom, shape.hidden); }
  Row scalar_of(int64_t e) const { return row(values.bond_scalar, changes.bond_scalar, e, shape.scalars); }
  Row vector_of(int64_t e) const { return row(values.bond_vector, changes.bond_vector, e, 3 * shape.vectors); }
  Row direction_of(int64_t e) const { return row(values.direction, changes.direction, e, 3); }
  Row radial_of(int64_t e) const { return row(values.radial, changes.radial, e, shape.radial); }
  Dual<T> envelope_of(int64_t e) const { return row(values.envelope, changes.envelope, e, 1)[0]; }
  Row hidden_bias() const { return row(values.hidden_bias, changes.hidden_bias, 0, 0); }
  Row output_bias() const { return row(values.out_bias, changes.out_bias, 0, 0); }
};

// to [rows, channels] = matrix [rows, inner] times from [inner, channels]; with `transposed`, the transpose of matrix.
template <int rows, int inner, bool transposed, typename T, typename From, typename To>
DTNN_ALWAYS_INLINE void turn_components(const T* matrix, From from, int64_t channels, To to) {
  for (int a = 0; a < rows; ++a) {
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) {
      std::decay_t<decltype(from[c])> sum = T(0);
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
template <typename View>
struct NeighborValues {
  typename View::Row q;
  typename View::Row tau;
};
template <typename View>
DTNN_ALWAYS_INLINE NeighborValues<View> neighbor_values(const View& in, int64_t e, typename View::Out scratch) {
  const int64_t v = in.shape.vectors, n = in.neighbor[e];
  const typename View::Row q = in.q_of(n), tau = in.tau_of(n);
  if (in.turn == nullptr) return {q, tau};
  typename View::Scalar matrix[36];
  component_rotation(in.turn + 9 * e, matrix);
  turn_components<3, 3, false>(in.turn + 9 * e, q, v, scratch);
  turn_components<6, 6, false>(matrix, tau, v, scratch + 3 * v);
  return {scratch, scratch + 3 * v};
}

}  // namespace dtnn
