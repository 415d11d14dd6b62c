// SPDX-License-Identifier: MIT
// The messages of one layer of the native encoder, without a tensor of features or messages in memory.
//
// bond_messages(q [N, 3, V], tau [N, 6, V], atom_hidden [N, H], bond_scalar [E, C], bond_vector [E, 3, V],
//               direction [E, 3], envelope [E], radial [E, R], hidden_weight [H, C + 5 V + R], hidden_bias [H],
//               out_weight [C + 5 V, H], out_bias [C + 5 V], pairs, row_ptr, neighbor_order, neighbor_row_ptr,
//               turn [E, 3, 3]?, turn_counts [2, E]?, precision = 0)
//   -> (new_scalar [E, C], new_vector [E, 3, V], sum_scalar [N, C], sum_vector [N, 3, V], sum_rank2 [N, 6, V])
//
//   With u the direction, b the bond vector, q_c, q_n, tau_c, tau_n the values of the ends (those of the neighbor
//   turned: R q and R tau R^T with R = turn), every line for each channel:
//     d = q_n - q_c,  m = (tau_c + tau_n) u
//     f = [bond_scalar, u . d, q_c . q_n, u . m, tau_c : tau_n, u . b, radial]
//     h = silu(f hidden_weight^T + hidden_bias + atom_hidden_c + atom_hidden_n)
//     y = envelope (h out_weight^T + out_bias),  split into y_s and y_1 ... y_5
//     new_scalar = bond_scalar + y_s,  new_vector = b + y_1 u + y_2 d + y_3 m
//     t = sym(u (x) (y_4 u + y_5 new_vector))
//   The sums of new_scalar, t and, away from the atom, new_vector go over the bonds of each atom: at the center as they
//   are, at the neighbor with new_vector reversed. With turns, a bond counts turn_counts[0] times at its center, and
//   turn_counts[1] times at its neighbor, turned back there: -R^T new_vector and R^T t R.
//
// bond_messages_backward(grad_scalar?, grad_vector?, grad_sum_scalar?, grad_sum_vector?, grad_sum_rank2?, the arguments
//                        of bond_messages, need_geometry, need_weights, precision = 0)
//   -> gradients of q, tau, atom_hidden, bond_scalar, bond_vector, direction, envelope, radial and the four weights.
//   Features and messages are computed again. Gradients that are not needed have shape [0].
//
// bond_messages_double_backward(change_q?, ..., change_out_bias? (twelve), the arguments of bond_messages_backward)
//   -> gradients of grad_scalar, ..., grad_sum_rank2 (five), then of the twelve inputs as bond_messages_backward
//   returns them. change_x is the gradient of the gradient of x; an absent one is zero. All five gradients are
//   returned, also of an absent grad_scalar for example. On the CPU alone.
//
// `precision` is what the factors of both matrix products and of the values' gradients are rounded to, as in
// rank2_linear; on the CPU only for 2 (bfloat16), where the processor has the instruction, and the products of the
// weights' gradients stay in float32 there.
//
// Results do not depend on the number of threads: blocks of crystals depend on the list alone (cpu/closed_blocks.h),
// bonds are added in order, and the gradients of the weights are summed in a fixed number of groups. Empties: no atoms,
// no bonds. Errors: as for bond_to_atom_sum.
#pragma once

#include "bond_ends.h"

namespace dtnn {

struct MessageShape {
  int64_t num_atoms;
  int64_t num_bonds;
  int64_t scalars;
  int64_t vectors;
  int64_t radial;
  int64_t hidden;

  int64_t features() const { return scalars + 5 * vectors + radial; }
  int64_t outputs() const { return scalars + 5 * vectors; }
};

// Contiguous inputs.
struct MessageInputs {
  Tensor q;
  Tensor tau;
  Tensor atom_hidden;
  Tensor bond_scalar;
  Tensor bond_vector;
  Tensor direction;
  Tensor envelope;
  Tensor radial;
  Tensor hidden_weight;
  Tensor hidden_bias;
  Tensor out_weight;
  Tensor out_bias;
  BondEnds ends;
  OptionalTensor turn;
  OptionalTensor turn_counts;
};

struct MessageOutputs {
  Tensor scalar;
  Tensor vector;
  Tensor sum_scalar;
  Tensor sum_vector;
  Tensor sum_rank2;
};

// Gradients of the outputs; an absent one is zero.
struct MessageOutputGrads {
  OptionalTensor scalar;
  OptionalTensor vector;
  OptionalTensor sum_scalar;
  OptionalTensor sum_vector;
  OptionalTensor sum_rank2;
};

// Gradients of the gradients of the inputs; an absent one is zero.
struct MessageInputChanges {
  OptionalTensor q;
  OptionalTensor tau;
  OptionalTensor atom_hidden;
  OptionalTensor bond_scalar;
  OptionalTensor bond_vector;
  OptionalTensor direction;
  OptionalTensor envelope;
  OptionalTensor radial;
  OptionalTensor hidden_weight;
  OptionalTensor hidden_bias;
  OptionalTensor out_weight;
  OptionalTensor out_bias;
};

struct MessageNeeds {
  bool geometry;  // direction, envelope and radial basis
  bool weights;
};

// How the matrix products are computed: 0 in float32, 1 in tf32 (CUDA only), 2 in bfloat16.
struct MessageProducts {
  int64_t precision;
};

struct MessageGrads {
  Tensor q;
  Tensor tau;
  Tensor atom_hidden;
  Tensor bond_scalar;
  Tensor bond_vector;
  Tensor direction;
  Tensor envelope;
  Tensor radial;
  Tensor hidden_weight;
  Tensor hidden_bias;
  Tensor out_weight;
  Tensor out_bias;
};

void bond_messages_cpu(const MessageShape& shape, const MessageInputs& inputs, const MessageProducts& products,
                       MessageOutputs& outputs);
void bond_messages_backward_cpu(const MessageShape& shape, const MessageInputs& inputs, const MessageProducts& products,
                                const MessageOutputGrads& output_grads, const MessageNeeds& needs, MessageGrads& grads);
void bond_messages_double_backward_cpu(const MessageShape& shape, const MessageInputs& inputs,
                                       const MessageInputChanges& changes, const MessageOutputGrads& output_grads,
                                       const MessageNeeds& needs, MessageOutputs& output_changes, MessageGrads& grads);
void bond_messages_cuda(const MessageShape& shape, const MessageInputs& inputs, const MessageProducts& products,
                        MessageOutputs& outputs);
void bond_messages_backward_cuda(const MessageShape& shape, const MessageInputs& inputs,
                                 const MessageProducts& products, const MessageOutputGrads& output_grads,
                                 const MessageNeeds& needs, MessageGrads& grads);

}  // namespace dtnn
