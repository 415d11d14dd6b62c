// SPDX-License-Identifier: MIT
#include "ops/decode_program.h"

#include <vector>

namespace dtnn {
namespace {

constexpr double kNormEps = 0.01;  // as in rank2_linear

// Channels of atoms within the program.
struct Atoms {
  TileValueId scalar;
  TileValueId vector;
  TileValueId rank2;
};

// Where the masks of dropout come from: the inputs `first`, `first` + 1, ... in the order of their use.
struct Masks {
  std::vector<TileValueId> ids;
  size_t used = 0;

  TileValueId next() { return ids.empty() ? kNoTileValue : ids[used++]; }
};

struct Bonds {
  TileValueId vector = kNoTileValue;
  TileValueId envelope_sum = kNoTileValue;
  std::vector<TileValueId> sums;  // of each block
};

TileValueId hidden_layer(TileProgram& p, TileValueId x, int64_t outputs, Masks& masks) {
  const TileMatrix weight = p.matrix(p.values()[static_cast<size_t>(x)].channels, outputs);
  const int64_t bias = p.vector(outputs);
  return p.silu(p.linear({{x, all_of(weight)}}, bias), masks.next());
}

Atoms block(TileProgram& p, const DecodeSizes& sizes, Atoms atoms, const Bonds& bonds, int64_t index, Masks& masks) {
  const int64_t h = sizes.latent;
  const auto channels = [&](TileValueId id) { return p.values()[static_cast<size_t>(id)].channels; };
  const TileValueId hidden = hidden_layer(p, hidden_layer(p, atoms.scalar, h, masks), h, masks);
  const TileMatrix last = p.matrix(h, h);
  const int64_t last_bias = p.vector(h);
  std::vector<LinearTerm> scalar_terms{{hidden, all_of(last)}};
  const bool with_bonds = bonds.vector != kNoTileValue;
  if (with_bonds) {
    const TileMatrix bond_out = p.matrix(h + 1, h);
    scalar_terms.push_back({bonds.sums[static_cast<size_t>(index)], rows_of(bond_out, 0, h)});
    scalar_terms.push_back({bonds.envelope_sum, rows_of(bond_out, h, 1)});
  }
  const TileValueId scalar = p.linear(scalar_terms, last_bias);
  const TileValueId rank2 = p.linear({{atoms.rank2, all_of(p.matrix(channels(atoms.rank2), h))}});
  const int64_t own = channels(atoms.vector), from_bonds = with_bonds ? channels(bonds.vector) : 0;
  const TileMatrix vector_in = p.matrix(own + from_bonds, h);
  std::vector<LinearTerm> vector_terms{{atoms.vector, rows_of(vector_in, 0, own)}};
  if (with_bonds) vector_terms.push_back({bonds.vector, rows_of(vector_in, own, from_bonds)});
  const TileValueId vector = p.linear(vector_terms);

  const TileMatrix mix1 = p.matrix(3 * h, h);
  const int64_t mix1_bias = p.vector(h);
  const TileMatrix mix2 = p.matrix(h, 3 * h);
  const int64_t mix2_bias = p.vector(3 * h);
  const TileMatrix vector_out = p.matrix(h, h), rank2_out = p.matrix(h, h);
  const TileValueId vector_norm = p.norm(vector, kNormEps), rank2_norm = p.norm(rank2, kNormEps);
  const TileValueId mixed = p.silu(
      p.linear(
          {{scalar, rows_of(mix1, 0, h)}, {vector_norm, rows_of(mix1, h, h)}, {rank2_norm, rows_of(mix1, 2 * h, h)}},
          mix1_bias),
      masks.next());
  const TileValueId change = p.linear({{mixed, cols_of(mix2, 0, h)}}, mix2_bias);
  const TileValueId vector_gate = p.linear({{mixed, cols_of(mix2, h, h)}}, mix2_bias + h);
  const TileValueId rank2_gate = p.linear({{mixed, cols_of(mix2, 2 * h, h)}}, mix2_bias + 2 * h);
  const bool residual = sizes.residual;
  return {residual ? p.add(scalar, change) : change,
          p.gate(vector_gate, p.linear({{vector, all_of(vector_out)}}), residual ? vector : kNoTileValue),
          p.gate(rank2_gate, p.linear({{rank2, all_of(rank2_out)}}), residual ? rank2 : kNoTileValue)};
}

TileValueId one_channel(TileProgram& p, TileValueId x) {
  return p.linear({{x, all_of(p.matrix(p.values()[static_cast<size_t>(x)].channels, 1))}});
}

TileValueId readout(TileProgram& p, const DecodeSizes& sizes, const Atoms& atoms, Masks& masks) {
  const auto perceptron = [&] {
    const TileValueId hidden = hidden_layer(p, atoms.scalar, sizes.latent, masks);
    const TileMatrix weight = p.matrix(sizes.latent, 1);
    const int64_t bias = p.vector(1);
    return p.linear({{hidden, all_of(weight)}}, bias);
  };
  const TileValueId value = perceptron();
  const TileValueId gate = perceptron();
  const TileValueId vector = one_channel(p, atoms.vector);
  const TileValueId rank2 = one_channel(p, atoms.rank2);
  return p.atom_tensor(value, gate, vector, rank2);
}

}  // namespace

TileProgram decode_program(const DecodeArgs& args, const DecodeNeeds& needs) {
  const DecodeSizes& sizes = args.sizes;
  TileProgram p(needs.weights);
  Atoms atoms{p.input(1, sizes.scalar, needs.atoms), p.input(3, sizes.vector, needs.atoms),
              p.input(6, sizes.rank2, needs.atoms)};
  Bonds bonds;
  if (args.bond_vector.has_value()) {
    bonds.vector = p.input(3, sizes.bond_vector, needs.bonds);
    bonds.envelope_sum = p.input(1, 1, needs.bonds);
    for (int64_t l = 0; l < sizes.blocks; ++l) bonds.sums.push_back(p.input(1, sizes.latent, needs.bonds));
  }
  Masks masks;
  if (args.masks.has_value()) {
    for (int64_t d = 0; d < sizes.num_masks(); ++d) masks.ids.push_back(p.input(1, sizes.latent, needs.masks));
  }
  for (int64_t l = 0; l < sizes.blocks; ++l) atoms = block(p, sizes, atoms, bonds, l, masks);
  for (int64_t r = 0; r < sizes.readouts; ++r) p.output(readout(p, sizes, atoms, masks));
  return p;
}

void check_num_weights(const char* op, const DecodeArgs& args, const TileProgram& program) {
  DTNN_CHECK(args.weights.size(1) == program.num_weights(), op,
             ": expected `weights` of shape [M, P] with P = ", program.num_weights(), " for these channels, got ",
             describe_shape(args.weights));
}

}  // namespace dtnn
