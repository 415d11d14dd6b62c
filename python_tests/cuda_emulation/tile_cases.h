// SPDX-License-Identifier: MIT
// Programs of every kind of step for the cases of tile programs, forward and backward.
#pragma once

#include "cases.h"
#include "core/tile_program.h"

namespace dtnn::cases {

struct Widths {
  int64_t scalars, vectors, tensors, hidden;
};

// What the backward computes.
struct Needs {
  bool inputs = false;
  bool weights = false;
};

inline int64_t channels_of(const TileProgram& p, TileValueId x) { return p.values()[static_cast<size_t>(x)].channels; }

inline LinearTerm times(TileProgram& p, TileValueId x, int64_t outputs) {
  return {x, all_of(p.matrix(channels_of(p, x), outputs))};
}

// Two layers with masks: products of 1, 2, 3 and 6 rows a lane, for enough rows.
inline TileProgram perceptron(const Widths& w, const Needs& needs) {
  TileProgram p(needs.weights);
  const TileValueId x = p.input(1, w.scalars, needs.inputs), mask = p.input(1, w.hidden, needs.inputs);
  const auto layer = [&](TileValueId in, TileValueId masks) {
    const LinearTerm term = times(p, in, w.hidden);
    const int64_t bias = p.vector(w.hidden);
    return p.silu(p.linear({term}, bias), masks);
  };
  p.output(layer(layer(x, mask), kNoTileValue));
  return p;
}

// Every kind of step; an output that is read again; products of several terms and of one column.
inline TileProgram all_steps(const Widths& w, const Needs& needs) {
  TileProgram p(needs.weights);
  const TileValueId s = p.input(1, w.scalars, needs.inputs), v = p.input(3, w.vectors, needs.inputs),
                    t = p.input(6, w.tensors, false);
  const TileValueId one = p.input(1, 1, needs.inputs);
  const TileValueId x = p.linear({times(p, v, w.hidden)}), y = p.linear({times(p, t, w.hidden)});
  const TileValueId norm = p.norm(x, 0.01), scale = p.soft_scale(y);
  const TileValueId small = p.scale_rows(y, scale), turned = p.times_vector(small, x);
  const std::vector<TileValueId> parts{p.layer_norm(s, 1e-5), norm, p.trace(small), p.dot(x, turned), one};
  std::vector<LinearTerm> terms;
  for (TileValueId part : parts) terms.push_back(times(p, part, w.hidden));
  const int64_t bias = p.vector(w.hidden);
  const TileValueId hidden = p.silu(p.linear(terms, bias));
  p.output(hidden);
  const TileMatrix wide = p.matrix(w.hidden, w.hidden + 3);  // of which one product has columns 3..
  const TileValueId gate = p.linear({{hidden, cols_of(wide, 3, w.hidden)}});
  const TileValueId sum = p.gated_sum(gate, p.square(x), norm, small);
  const TileValueId more = p.gated_sum(gate, x, norm, turned, x);
  p.output(p.traceless(p.gate(gate, sum, sum)));
  p.output(p.gate(norm, p.linear({times(p, more, w.hidden)})));
  const TileValueId value = p.add(p.linear({times(p, hidden, 1)}, p.vector(1)), p.linear({times(p, norm, 1)}));
  p.output(
      p.atom_tensor(value, p.linear({times(p, gate, 1)}), p.linear({times(p, more, 1)}), p.linear({times(p, y, 1)})));
  return p;
}

// A program of random steps, in which values may be an input twice.
class RandomProgram {
 public:
  RandomProgram(const Widths& w, const Needs& needs, unsigned seed)
      : random_(seed), hidden_(w.hidden), program_(needs.weights) {
    const int64_t widths[3] = {w.scalars, w.vectors, w.tensors};
    for (size_t rank = 0; rank < 3; ++rank) {
      const TileValueId in = program_.input(kComponents[rank], widths[rank], needs.inputs && below(4) > 0);
      inputs_[rank] = in;
      values_[rank].push_back(program_.linear({times(program_, in, hidden_)}));
    }
    for (int step = 0; step < 12; ++step) add_step();
    std::vector<TileValueId> outputs{values_[0].back(), values_[1].back(), values_[2].back(), any(0), any(below(3))};
    std::sort(outputs.begin(), outputs.end());
    outputs.erase(std::unique(outputs.begin(), outputs.end()), outputs.end());
    for (TileValueId id : outputs) program_.output(id);
  }

  TileProgram result() const { return program_; }

 private:
  static constexpr int64_t kComponents[3] = {1, 3, 6};

  size_t below(unsigned count) { return random_() % count; }
  TileValueId any(size_t rank) { return values_[rank][below(static_cast<unsigned>(values_[rank].size()))]; }
  TileValueId maybe(size_t rank) { return below(2) == 0 ? kNoTileValue : any(rank); }

  TileValueId linear(size_t rank, int64_t outputs) {
    std::vector<LinearTerm> terms;
    for (size_t count = 1 + below(3); count > 0; --count) {
      terms.push_back(times(program_, below(4) == 0 ? inputs_[rank] : any(rank), outputs));
    }
    const int64_t bias = below(2) == 0 ? kNoBias : program_.vector(outputs);
    return program_.linear(terms, bias);
  }

  void add_step() {
    TileProgram& p = program_;
    const size_t rank = below(3);
    switch (below(12)) {
      case 0:
        return add(rank, linear(rank, hidden_));
      case 1:
        return add(rank, p.silu(any(rank), maybe(rank)));
      case 2:
        return add(0, p.norm(any(rank), 0.01));
      case 3:
        return add(rank, p.gate(any(0), any(rank), maybe(rank)));
      case 4:
        return add(rank, p.add(any(rank), any(rank)));
      case 5: {
        const TileValueId value = linear(0, 1), gate = below(2) == 0 ? value : linear(0, 1);
        return add(2, p.linear({times(p, p.atom_tensor(value, gate, linear(1, 1), linear(2, 1)), hidden_)}));
      }
      case 6:
        return add(0, p.layer_norm(any(0), 1e-5));
      case 7:
        return add(rank, p.scale_rows(any(rank), p.soft_scale(any(below(3)))));
      case 8:
        return add(1, p.times_vector(any(2), any(1)));
      case 9:
        return add(0, below(2) == 0 ? p.trace(any(2)) : p.dot(any(1), any(1)));
      case 10:
        return add(2, below(2) == 0 ? p.square(any(1)) : p.traceless(any(2)));
      default:
        return add(rank, p.gated_sum(any(0), any(rank), any(0), any(rank), maybe(rank)));
    }
  }

  void add(size_t rank, TileValueId value) { values_[rank].push_back(value); }

  std::mt19937 random_;
  int64_t hidden_;
  TileProgram program_;
  TileValueId inputs_[3];
  std::vector<TileValueId> values_[3];
};

// 0 and 1 are the programs above, other numbers seeds of random ones.
inline TileProgram make_program(int64_t number, const Widths& widths, const Needs& needs = {}) {
  if (number == 0) return perceptron(widths, needs);
  if (number == 1) return all_steps(widths, needs);
  return RandomProgram(widths, needs, static_cast<unsigned>(number)).result();
}

// Numbers between -1 and 1; `shift` of them are left free at the start.
template <typename T>
class Numbers {
 public:
  Numbers(int64_t count, int64_t shift, double scale, unsigned seed) : buffer_(count + shift), shift_(shift) {
    std::mt19937 random(seed);
    for (T& number : buffer_) number = static_cast<T>(scale * (random() / 2147483648.0 - 1));
  }
  T* data() { return buffer_.data() + shift_; }

 private:
  std::vector<T> buffer_;
  int64_t shift_;
};

}  // namespace dtnn::cases
