// SPDX-License-Identifier: MIT
// Functions of bond vectors that the native encoder reads (dtnn_fast/nn/radial.py).
//
// bond_geometry(vectors [E, 3], cutoff, num_radial) -> (length [E], direction [E, 3], envelope [E], radial [E, R])
//   length L = |v|, direction v / L
//   envelope = 1 - 28 x^6 + 48 x^7 - 21 x^8 with x = L / cutoff, 0 beyond the cutoff
//   radial_k = sqrt(2 / cutoff) sin(k pi L / cutoff) / L, k = 1 ... R, by rotation from k = 1
// bond_geometry_backward(grad_length?, grad_direction?, grad_envelope?, grad_radial?, vectors, cutoff, num_radial,
//                        need_vectors) -> grad_vectors
// bond_geometry_double_backward(change_vectors, the arguments of the backward)
//   -> gradients of grad_length, grad_direction, grad_envelope and grad_radial, also of absent ones, and of vectors,
//   [0] where not needed. change_vectors is the gradient of grad_vectors; absent: zero. On the CPU alone.
//
// Bonds are independent of each other. A vector of length 0 gives NaN. E = 0 and R = 0 are fine.
// Errors: shapes, dtypes; a cutoff that is not finite and above 0; R below 0.
#pragma once

#include "optional_tensor.h"

namespace dtnn {

struct BondGeometryOut {
  Tensor length;
  Tensor direction;
  Tensor envelope;
  Tensor radial;
};
void bond_geometry_cpu(const Tensor& vectors, double cutoff, int64_t num_radial, BondGeometryOut& out);
void bond_geometry_cuda(const Tensor& vectors, double cutoff, int64_t num_radial, BondGeometryOut& out);

struct BondGeometryGrads {
  OptionalTensor length;
  OptionalTensor direction;
  OptionalTensor envelope;
  OptionalTensor radial;
};
void bond_geometry_backward_cpu(const Tensor& vectors, double cutoff, int64_t num_radial,
                                const BondGeometryGrads& grads, Tensor& grad_vectors);
void bond_geometry_backward_cuda(const Tensor& vectors, double cutoff, int64_t num_radial,
                                 const BondGeometryGrads& grads, Tensor& grad_vectors);
// grad_vectors is null where not needed.
void bond_geometry_double_backward_cpu(const Tensor& change_vectors, const Tensor& vectors, double cutoff,
                                       int64_t num_radial, const BondGeometryGrads& grads, BondGeometryOut& changes,
                                       Tensor* grad_vectors);

}  // namespace dtnn
