// SPDX-License-Identifier: MIT
#include "ops/atom_network_programs.h"

namespace dtnn {
namespace {

constexpr double kNormEps = 0.01;       // as in rank2_linear
constexpr double kLayerNormEps = 1e-5;  // as in torch

struct AtomValues {
  TileValueId scalar;
  TileValueId vector;
  TileValueId rank2;
};

// A vector or tensor that is divided by sqrt(1 + mean |x|^2), and its smooth norm divided alike.
struct SoftNormalised {
  TileValueId components;
  TileValueId norm;
};

SoftNormalised soft_normalised(TileProgram& p, TileValueId x) {
  const TileValueId norm = p.norm(x, kNormEps);
  const TileValueId scale = p.soft_scale(norm);
  return {p.scale_rows(x, scale), p.scale_rows(norm, scale)};
}

// Splits the outputs of a layer.
struct Columns {
  TileProgram& program;
  TileValueId x;
  TileMatrix matrix;
  int64_t bias;
  int64_t used = 0;

  TileValueId next(int64_t count) {
    used += count;
    return program.linear({{x, cols_of(matrix, used - count, count)}}, bias + used - count);
  }
};

}  // namespace

TileProgram update_program(const Channels& c, bool need_atoms, bool need_sums, bool need_weights) {
  TileProgram p(need_weights);
  const AtomValues atom{p.input(1, c.scalar, need_atoms), p.input(3, c.vector, need_atoms),
                        p.input(6, c.rank2, need_atoms)};
  const AtomValues sum{p.input(1, c.scalar, need_sums), p.input(3, c.vector, need_sums),
                       p.input(6, c.vector, need_sums)};
  const TileMatrix vector_mix = p.matrix(2 * c.vector, c.vector);
  const TileMatrix rank2_mix = p.matrix(c.rank2 + c.vector, c.vector);
  const TileMatrix first = p.matrix(2 * c.scalar + 4 * c.vector, c.scalar);
  const int64_t first_bias = p.vector(c.scalar);
  const TileMatrix second = p.matrix(c.scalar, c.scalar + 4 * c.vector);
  const int64_t second_bias = p.vector(c.scalar + 4 * c.vector);
  const TileMatrix rank2_out = p.matrix(c.vector, c.rank2);

  const auto [x, x_norm] = soft_normalised(p, p.linear({{atom.vector, rows_of(vector_mix, 0, c.vector)},
                                                        {sum.vector, rows_of(vector_mix, c.vector, c.vector)}}));
  const auto [y, y_norm] = soft_normalised(
      p, p.linear({{atom.rank2, rows_of(rank2_mix, 0, c.rank2)}, {sum.rank2, rows_of(rank2_mix, c.rank2, c.vector)}}));
  const TileValueId m = p.times_vector(y, x);
  std::vector<LinearTerm> invariants;
  int64_t row = 0;
  for (TileValueId id :
       {p.layer_norm(atom.scalar, kLayerNormEps), sum.scalar, x_norm, y_norm, p.trace(y), p.dot(x, m)}) {
    const int64_t channels = p.values()[static_cast<size_t>(id)].channels;
    invariants.push_back({id, rows_of(first, row, channels)});
    row += channels;
  }
  Columns columns{p, p.silu(p.linear(invariants, first_bias)), second, second_bias};
  const TileValueId change = columns.next(c.scalar);
  const TileValueId g1 = columns.next(c.vector), g2 = columns.next(c.vector), g3 = columns.next(c.vector),
                    g4 = columns.next(c.vector);
  p.output(p.add(atom.scalar, change));
  p.output(p.gated_sum(g1, x, g2, m, atom.vector));
  p.output(p.add(atom.rank2, p.linear({{p.gated_sum(g3, y, g4, p.square(x)), all_of(rank2_out)}})));
  return p;
}

TileProgram readout_program(const Channels& c, const Channels& out, bool need_atoms, bool need_weights) {
  TileProgram p(need_weights);
  const AtomValues atom{p.input(1, c.scalar, need_atoms), p.input(3, c.vector, need_atoms),
                        p.input(6, c.rank2, need_atoms)};
  const TileMatrix first = p.matrix(c.scalar, c.scalar);
  const int64_t first_bias = p.vector(c.scalar);
  const int64_t gates = c.scalar + 2 * out.vector + 2 * out.rank2;
  const TileMatrix second = p.matrix(c.scalar, gates);
  const int64_t second_bias = p.vector(gates);
  const TileMatrix scalar = p.matrix(c.scalar, out.scalar);
  const int64_t scalar_bias = p.vector(out.scalar);
  const TileMatrix hidden = p.matrix(c.scalar, out.scalar);
  const TileMatrix vector = p.matrix(c.vector, out.vector), rank2 = p.matrix(c.rank2, out.rank2);
  const TileMatrix vector_in = p.matrix(c.vector, c.vector), rank2_in = p.matrix(c.rank2, c.vector);
  const TileMatrix turned = p.matrix(c.vector, out.vector), squared = p.matrix(c.vector, out.rank2);

  const TileValueId normed = p.layer_norm(atom.scalar, kLayerNormEps);
  Columns columns{p, p.silu(p.linear({{normed, all_of(first)}}, first_bias)), second, second_bias};
  const TileValueId h = columns.next(c.scalar), g1 = columns.next(out.vector), g2 = columns.next(out.vector),
                    g3 = columns.next(out.rank2), g4 = columns.next(out.rank2);
  const auto bounded = [&](TileValueId value) { return p.scale_rows(value, p.soft_scale(value)); };
  const TileValueId x = bounded(p.linear({{atom.vector, all_of(vector_in)}}));
  const TileValueId y = bounded(p.linear({{atom.rank2, all_of(rank2_in)}}));
  p.output(p.linear({{atom.scalar, all_of(scalar)}, {h, all_of(hidden)}}, scalar_bias));
  const TileValueId v = p.linear({{atom.vector, all_of(vector)}});
  p.output(p.gated_sum(g1, v, g2, p.linear({{p.times_vector(y, x), all_of(turned)}}), v));
  const TileValueId t = p.linear({{atom.rank2, all_of(rank2)}});
  p.output(p.traceless(p.gated_sum(g3, t, g4, p.linear({{p.square(x), all_of(squared)}}), t)));
  return p;
}

}  // namespace dtnn
