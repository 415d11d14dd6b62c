// SPDX-License-Identifier: MIT
// tensor_readout(atom_scalar [N, C], atom_vector [N, 3, C], atom_rank2 [N, 6, C], ptr [B+1]) -> epsilon [B, 3, 3]
//
//   epsilon[b] = mean over the atoms ptr[b]..ptr[b+1] of sum_c (s_c I + v_c (x) v_c + t_c),   t = xx yy zz yz xz xy
//
// tensor_readout_backward(grad [B, 3, 3], atom_vector, ptr) -> (grad_scalar [N, C], grad_vector [N, 3, C],
//                                                             grad_rank2 [N, 6, C])
//   with G = grad[b] / number of atoms: grad_s = trace G,  grad_v = (G + G^T) v,  grad_t = G_xx G_yy G_zz and the sums
//   G_yz + G_zy, G_xz + G_zx, G_xy + G_yx.
//
// The result is symmetric to the bit. Sums go over channels, then over atoms in order in float64, so they are the same
// for any number of threads; on CUDA over tiles of atoms in float64 (cuda/segment_sums.h). Empties: B = 0 with N = 0,
// and C = 0 (which gives 0). Errors: ptr not from 0 to N or not ascending, and a crystal without atoms, which has no
// mean. On CUDA they come later (cuda/device_errors.h).
#pragma once

#include "check.h"

namespace dtnn {

struct ReadoutInputs {
  Tensor atom_scalar;  // contiguous, as are the others
  Tensor atom_vector;
  Tensor atom_rank2;
  Tensor ptr;
};

struct ReadoutGrads {
  Tensor grad_scalar;
  Tensor grad_vector;
  Tensor grad_rank2;
};

void tensor_readout_cpu(const ReadoutInputs& inputs, Tensor& epsilon);
void tensor_readout_backward_cpu(const Tensor& grad, const Tensor& atom_vector, const Tensor& ptr, ReadoutGrads& grads);
void tensor_readout_cuda(const ReadoutInputs& inputs, Tensor& epsilon);
void tensor_readout_backward_cuda(const Tensor& grad, const Tensor& atom_vector, const Tensor& ptr,
                                  ReadoutGrads& grads);

}  // namespace dtnn
