// SPDX-License-Identifier: MIT
// The networks of the native encoder on single atoms (dtnn_fast/encoders/native_layer.py, native.py), each in one pass:
// scalars s, vectors v and symmetric tensors t of an atom in, the same out. `weights` [P] holds matrices [inputs,
// outputs] and biases in the order in which they are named below.
//
// atom_update(scalar [N, S], vector [N, 3, C], rank2 [N, 6, T], sum_scalar [N, S], sum_vector [N, 3, C],
//             sum_rank2 [N, 6, C], weights) -> (scalar, vector, rank2), of the shapes of the first three
//   x = [v, sum_vector] vector_mix [2 C, C], divided by sqrt(1 + mean |x|^2); likewise
//   y = [t, sum_rank2] rank2_mix [T + C, C]; m = y x
//   [change, g1, g2, g3, g4] = update([layer_norm(s), sum_scalar, |x|, |y|, tr y, x . m]), two layers through S
//   channels s + change, v + g1 x + g2 m, t + (g3 y + g4 x (x) x) rank2_out [C, T] |x| is the smooth norm with eps =
//   0.01, and enters the divisor above.
// atom_readout(scalar [N, S], vector [N, 3, C], rank2 [N, 6, T], weights, S', C', T')
//   -> (scalar [N, S'], vector [N, 3, C'], rank2 [N, 6, T'])
//   [h, g1, g2, g3, g4] = gates(layer_norm(s)), two layers through S channels;  s scalar + bias + h hidden
//   (1 + g1) v vector + g2 (y x) turned,  traceless part of (1 + g3) t rank2 + g4 (x (x) x) squared
//   with x = v vector_in and y = t rank2_in, both C channels and divided by sqrt(1 + mean |.|^2)
// <op>_backward(grad_scalar?, grad_vector?, grad_rank2?, the same, need_<...>) -> the gradients of the tensors, of
//   shape [0] where not needed. The values are computed again.
// <op>_double_backward(change_<tensor>? for each tensor, the arguments of the backward)
//   -> the gradients of grad_scalar, grad_vector and grad_rank2, then those of the tensors as <op>_backward has them.
//   change_x is the gradient of the gradient of x; an absent one is zero. All three gradients are returned, also of an
//   absent grad_scalar for example. On the CPU alone.
//
// Results are the same to the bit for any number of threads. N = 0 is fine. Errors: shapes, dtypes, devices.
#pragma once

#include <vector>

#include "core/tile_program.h"
#include "optional_tensor.h"

namespace dtnn {

struct AtomNetwork {
  std::vector<const Tensor*> inputs;
  const Tensor* weights;
  int64_t rows;
  int64_t precision;  // of the products, as for rank2_linear; CUDA ignores it
};

// `outputs` and gradients are contiguous; a null gradient is an absent or unneeded one.
void atom_network_cpu(const char* op, const TileProgram& program, const AtomNetwork& network,
                      std::vector<Tensor*> outputs);
void atom_network_cuda(const char* op, const TileProgram& program, const AtomNetwork& network,
                       std::vector<Tensor*> outputs);
void atom_network_backward_cpu(const char* op, const TileProgram& program, const AtomNetwork& network,
                               const std::vector<const Tensor*>& grad_outputs, std::vector<Tensor*> grad_inputs,
                               Tensor* grad_weights);
void atom_network_backward_cuda(const char* op, const TileProgram& program, const AtomNetwork& network,
                                const std::vector<const Tensor*>& grad_outputs, std::vector<Tensor*> grad_inputs,
                                Tensor* grad_weights);

// Gradients of the gradients of inputs and weights; null where absent.
struct AtomNetworkChanges {
  std::vector<const Tensor*> inputs;
  const Tensor* weights;
};

// `output_changes` are the gradients of grad_outputs.
void atom_network_double_backward_cpu(const TileProgram& program, const AtomNetwork& network,
                                      const AtomNetworkChanges& changes, const std::vector<const Tensor*>& grad_outputs,
                                      std::vector<Tensor*> output_changes, std::vector<Tensor*> grad_inputs,
                                      Tensor* grad_weights);

}  // namespace dtnn
