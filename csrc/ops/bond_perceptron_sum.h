// SPDX-License-Identifier: MIT
// Perceptrons on the bonds, summed at the atoms: the bond part of all decoder blocks of all members in one pass.
//
// bond_perceptron_sum(bond_scalar [E, C], envelope [E], weight1 [M, C, H], bias1 [M, H], weight2 [M, H, D],
//                     bias2 [M, D], pairs [2, E], row_ptr [N+1], sum_scalar [2, E]?, neighbor_order [E]?,
//                     neighbor_row_ptr [N+1]?, precision = 0) -> (sums [M, N, D], envelope_sum [N])
//   value[m, e] = silu(silu(bond_scalar[e] weight1[m] + bias1[m]) weight2[m] + bias2[m])
//   sums[m, n]  = sum over bonds of envelope[e] (sum_scalar[0, e] [pairs[0, e] = n] + sum_scalar[1, e] [pairs[1, e] =
//                 n]) value[m, e]
//   envelope_sum is the same sum with 1 in place of the value; sum_scalar is 1 where absent. neighbor_order and
//   neighbor_row_ptr are the bonds sorted by neighbor (bond_ends.h), which only CUDA needs.
// bond_perceptron_sum_backward(grad_sums?, grad_envelope_sum?, ..., need_scalar, need_envelope, need_weights,
//                              need_sum_scalar, precision = 0)
//   -> (grad_bond_scalar, grad_envelope, grad_weight1, grad_bias1, grad_weight2, grad_bias2, grad_sum_scalar)
//   An output that is not needed has shape [0]. The values are computed again.
//
// `precision` is that of rank2_linear for the products on the CPU; the gradients of the weights and CUDA stay in
// float32.
//
// Order of the sums: an atom's bonds as stored, whichever end it is; on CUDA those of the center, then those of the
// neighbor. So results are the same to the bit for any number of threads, and a crystal's do not depend on the other
// crystals of the batch. Gradients of weights: bonds are summed
// in a fixed number of groups, and the groups in order.
// Empties: E = 0, N = 0, M = 0 and no channels are fine.
// Errors: pairs that disagree with row_ptr or lie outside of [0, N).
#pragma once

#include "core/tile_program.h"
#include "optional_tensor.h"

namespace dtnn {

struct BondPerceptrons {
  Tensor bond_scalar;
  Tensor envelope;
  Tensor weight1;
  Tensor bias1;
  Tensor weight2;
  Tensor bias2;
  Tensor pairs;
  Tensor row_ptr;
  OptionalTensor sum_scalar;
  OptionalTensor neighbor_order;
  OptionalTensor neighbor_row_ptr;
  int64_t precision = 0;  // CUDA ignores it

  int64_t num_bonds() const { return bond_scalar.size(0); }
  int64_t num_atoms() const { return row_ptr.size(0) - 1; }
  int64_t num_members() const { return weight1.size(0); }
  int64_t channels() const { return weight1.size(1); }
  int64_t hidden() const { return weight1.size(2); }
  int64_t outputs() const { return weight2.size(2); }
};

// The perceptron of a member, whose weights are weight1, bias1, weight2, bias2.
TileProgram bond_perceptron_program(const BondPerceptrons& args, bool scalar_needs_grad, bool weights_need_grad);

// All arguments are contiguous.
void bond_perceptron_sum_cpu(const BondPerceptrons& args, Tensor& sums, Tensor& envelope_sum);
void bond_perceptron_sum_cuda(const BondPerceptrons& args, Tensor& sums, Tensor& envelope_sum);

struct BondPerceptronGrads {
  OptionalTensor grad_sums;
  OptionalTensor grad_envelope_sum;
  bool need_scalar;
  bool need_envelope;
  bool need_weights;
  bool need_sum_scalar;
  Tensor scalar;
  Tensor envelope;
  Tensor weight1;
  Tensor bias1;
  Tensor weight2;
  Tensor bias2;
  Tensor sum_scalar;
};
// Gradients that are not needed are not touched.
void bond_perceptron_sum_backward_cpu(const BondPerceptrons& args, BondPerceptronGrads& grads);
void bond_perceptron_sum_backward_cuda(const BondPerceptrons& args, BondPerceptronGrads& grads);

}  // namespace dtnn
