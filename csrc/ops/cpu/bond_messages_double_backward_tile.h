// SPDX-License-Identifier: MIT
// What the backward of bond_messages does on a tile in dual numbers alone, beside bond_messages_tile.h and
// bond_messages_backward_tile.h: the hidden layer, and the sums at the atoms.
#pragma once

#include "ops/cpu/bond_messages_backward_tile.h"

namespace dtnn {

// The channels from c on that fill a V: hidden = silu of what is before it, and the slope of silu, with their changes.
template <typename V, typename T>
DTNN_ALWAYS_INLINE void activate_dual_channels(const DualRow<T>* added, int64_t c, DualOut<T> hidden,
                                               DualOut<T> slope) {
  V x, change, more, scale;
  load(x, hidden.value + c);
  load(change, hidden.change + c);
  for (int k = 0; k < 3; ++k) {
    load(more, added[k].value + c);
    x = x + more;
    load(more, added[k].change + c);
    change = change + more;
  }
  sigmoid<T>(x, scale);
  const V rest = T(1) - scale, activated = x * scale;
  const V first = scale + activated * rest;
  const V second = scale * rest * (T(2) + x * (rest - scale));
  store(hidden.value + c, activated);
  const V hidden_change = first * change, slope_change = second * change;
  store(hidden.change + c, hidden_change);
  store(slope.value + c, first);
  store(slope.change + c, slope_change);
}

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void activate_dual_bonds(const DualMessageView<T>& in, BondRange bonds, DualOut<T> hidden,
                                            DualOut<T> slope) {
  using Many = Wide<T, bytes>;
  constexpr int64_t lanes = lanes_in<Many, T>;
  const int64_t h = in.shape.hidden;
  for (int64_t e = bonds.first; e < bonds.last; ++e, hidden = hidden + h, slope = slope + h) {
    const DualRow<T> added[3] = {in.hidden_bias(), in.hidden_of(in.center[e]), in.hidden_of(in.neighbor[e])};
    int64_t c = 0;
    for (; c + lanes <= h; c += lanes) activate_dual_channels<Many>(added, c, hidden, slope);
    for (; c < h; ++c) activate_dual_channels<T>(added, c, hidden, slope);
  }
}

// One bond at the atom of one side: of the gradients of the inputs, and of the changes of the sums.
template <typename T>
struct DualSums {
  AtomGradView<T> grads;
  MessageSums<T> sums;
  const T* new_scalar;  // [E, C]
  const T* new_vector;  // [E, 3, V]
};

template <typename T>
DTNN_ALWAYS_INLINE void add_dual_bond(const DualMessageView<T>& in, int64_t e, int side, T* ends, DualRow<T> w,
                                      const DualSums<T>& to, DualOut<T> scratch) {
  add_end_grads(in.values, e, side, ends, to.grads);
  add_to_side(in, e, side, to.new_scalar, to.new_vector, w, to.sums, scratch);
}

template <typename T>
DTNN_ALWAYS_INLINE void add_dual_bonds(const DualMessageView<T>& in, BondRange bonds, T* ends, DualRow<T> w,
                                       const DualSums<T>& to, DualOut<T> scratch) {
  for (int64_t e = bonds.first, row = 0; e < bonds.last; ++e, ++row) {
    for (int side = 0; side < 2; ++side) {
      add_dual_bond(in, e, side, ends + row * end_grads_width(in.shape), w + row * 3 * in.shape.vectors, to, scratch);
    }
  }
}

template <typename T>
DTNN_ALWAYS_INLINE void add_one_dual_side(const DualMessageView<T>& in, const int64_t* order, BondRange range, int side,
                                          T* ends, DualRow<T> w, int64_t first_bond, const DualSums<T>& to,
                                          DualOut<T> scratch) {
  for (int64_t k = range.first; k < range.last; ++k) {
    const int64_t e = order == nullptr ? k : order[k], row = e - first_bond;
    add_dual_bond(in, e, side, ends + row * end_grads_width(in.shape), w + row * 3 * in.shape.vectors, to, scratch);
  }
}

}  // namespace dtnn
