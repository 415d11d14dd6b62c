// SPDX-License-Identifier: MIT
// The decoders of all members in one pass: blocks and readouts of the decoder (dtnn_fast/model/decoder.py) on tiles of
// atoms, and the mean over the atoms of each crystal. What depends on bonds comes summed (bond_perceptron_sum).
//
// decode(scalar [N, Cs], vector [N, 3, Cv], rank2 [N, 6, Ct], bond_vector [N, 3, Cb]?, bond_sums [M L, N, H]?,
//        envelope_sum [N]?, masks [M, 3 L + 2 R, N, H]?, weights [M, P], ptr [B+1], atom_share [N]?, L, H, R, residual,
//        precision = 0)
//   -> [M, R, B, 3, 3]
//   M members, L blocks of H channels, R readouts. A block takes scalars s, vectors v and tensors t to
//     s = silu-MLP(s) (+ [bond_sums, envelope_sum] bond_out),  v = [v, bond_vector] vector_in,  t = t rank2_in
//     [change, g, h] = silu-MLP([s, |v|, |t|])
//     s' = change (+ s),  v' = sigmoid(g) (v vector_out) (+ v),  t' = sigmoid(h) (t rank2_out) (+ t)
//   with the residuals (+) as asked for and smooth norms, eps = 0.01. A readout gives each atom the tensor
//     silu-MLP(s) sigmoid(silu-MLP(s)) I + v' (x) v' + t',  v' = v vector_readout, t' = t rank2_readout
//   and each crystal the sum of atom_share times these, the mean where atom_share is absent.
//   `weights` holds for each member, matrices [inputs, outputs] and biases in this order: for each block scalar_in
//   (three layers), bond_out [H + 1, H] (the last row for envelope_sum), rank2_in, vector_in, mix (two layers),
//   vector_out, rank2_out; for each readout scalar_value and scalar_gate (two layers each), vector_readout,
//   rank2_readout. `masks` multiply the hidden activations (dropout): of a block scalar_in's two and mix's, of a
//   readout two. Without bonds the three bond arguments are absent, and so is bond_out.
// decode_backward(grad [M, R, B, 3, 3], the same, need_atoms, need_bonds, need_weights, need_masks, need_share,
//                 precision = 0)
//   -> gradients of scalar, vector, rank2, bond_vector, bond_sums, envelope_sum, weights, masks, atom_share
//   An output that is not needed, or whose argument is absent, has shape [0]. The values are computed again.
//
// `precision` is that of rank2_linear for the products on the CPU; products with one column, the gradients of the
// weights and CUDA stay in float32.
//
// Order of the sums: atoms of a crystal in order, on CUDA in float64 and in an order that the sizes set; gradients of
// weights in a fixed number of groups of atoms. Results are the same to the bit for any number of threads. Empties: N =
// 0 with B = 0, and M = 0, are fine; a crystal has at least one atom.
#pragma once

#include "optional_tensor.h"

namespace dtnn {

struct DecodeSizes {
  int64_t members;
  int64_t blocks;
  int64_t latent;
  int64_t readouts;
  bool residual;
  int64_t atoms;
  int64_t crystals;
  int64_t scalar;
  int64_t vector;
  int64_t rank2;
  int64_t bond_vector;  // 0 without bonds
  int64_t num_masks() const { return 3 * blocks + 2 * readouts; }
};

// Contiguous, and checked but for the values of ptr and the size of the weights.
struct DecodeArgs {
  DecodeSizes sizes;
  Tensor scalar;
  Tensor vector;
  Tensor rank2;
  OptionalTensor bond_vector;
  OptionalTensor bond_sums;
  OptionalTensor envelope_sum;
  OptionalTensor masks;
  Tensor weights;
  Tensor ptr;
  OptionalTensor atom_share;
  int64_t precision = 0;  // CUDA ignores it
};

void decode_cpu(const char* op, const DecodeArgs& args, Tensor& out);
void decode_cuda(const char* op, const DecodeArgs& args, Tensor& out);

struct DecodeNeeds {
  bool atoms;
  bool bonds;
  bool weights;
  bool masks;
  bool share;
};
// Tensors that are not needed are not touched.
struct DecodeGrads {
  Tensor scalar;
  Tensor vector;
  Tensor rank2;
  Tensor bond_vector;
  Tensor bond_sums;
  Tensor envelope_sum;
  Tensor weights;
  Tensor masks;
  Tensor atom_share;
};
void decode_backward_cpu(const char* op, const DecodeArgs& args, const Tensor& grad, const DecodeNeeds& needs,
                         DecodeGrads& grads);
void decode_backward_cuda(const char* op, const DecodeArgs& args, const Tensor& grad, const DecodeNeeds& needs,
                          DecodeGrads& grads);

}  // namespace dtnn
