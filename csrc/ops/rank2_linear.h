// SPDX-License-Identifier: MIT
// Channel mixing of scalars (K = 1), vectors (K = 3) and symmetric rank-2 tensors (K = 6: xx yy zz yz xz xy).
//
// rank2_linear(x [N, K, C], weight [D, C], precision) -> y [N, K, D]
//   y[n, k, d] = sum_c weight[d, c] x[n, k, c]
// rank2_linear_norm(x, weight, eps, precision) -> (y, norm [N, D])
//   norm[n, d] = sqrt(sum_k w_k y[n, k, d]^2 + eps^2) - eps,   w = 1, and 2 for the off-diagonals yz xz xy
// rank2_linear_backward(grad_y?, grad_norm?, y?, norm?, x, weight, eps, need_x, need_weight, precision)
//   -> (grad_x, grad_weight)
//   total[n, k, d] = grad_y[n, k, d] + grad_norm[n, d] w_k y[n, k, d] / (norm[n, d] + eps)      (absent parts are 0)
//   grad_x[n, k, c] = sum_d total[n, k, d] weight[d, c];   grad_weight[d, c] = sum_nk total[n, k, d] x[n, k, c]
//   An output that is not needed has shape [0]. grad_norm comes with y and norm.
// rank2_weight_grad(grad_y [N, K, D], x [N, K, C], precision) -> grad_weight [D, C]
//
// `precision` is what the factors of a product in float32 are rounded to on CUDA, where sums stay float32: 0 nothing,
// 1 tf32, 2 bfloat16. It changes nothing for float64 and on the CPU.
//
// Sums over c and d ascend; sums over atoms go by blocks of a size that follows from the shape, so results are the same
// to the bit for any number of threads. Empties: N, C and D may be 0; a sum over nothing is 0.
#pragma once

#include <utility>

#include "optional_tensor.h"

namespace dtnn {

struct Rank2Shape {
  int64_t num_atoms;     // N
  int64_t components;    // K
  int64_t channels_in;   // C
  int64_t channels_out;  // D
};

// Number of times that component k occurs in the full tensor: 2 for yz, xz and xy, which only K = 6 has.
inline int component_weight(int64_t k) { return k >= 3 ? 2 : 1; }

// Checks x [N, K, C] and weight [D, C] against each other.
Rank2Shape check_rank2(const char* op, const Tensor& x, const Tensor& weight);

// Checks an argument of the shape [N, K, channels], and one of the shape [N, D].
void check_components(const char* op, const char* name, const Tensor& tensor, const Rank2Shape& shape, const Tensor& x,
                      bool channels_out = true);
void check_invariants(const char* op, const char* name, const Tensor& tensor, const Rank2Shape& shape, const Tensor& x);

void check_precision(const char* op, int64_t precision);
// For norms that are smooth at 0.
void check_eps(const char* op, double eps, ScalarType type);

struct Rank2BackwardArgs {
  OptionalTensor grad_y;
  OptionalTensor grad_norm;
  OptionalTensor y;
  OptionalTensor norm;
  double eps;
  bool need_x;
  bool need_weight;
};

// Checks all arguments of rank2_linear_backward, and makes those of `args` contiguous.
Rank2Shape check_linear_backward(Rank2BackwardArgs& args, const Tensor& x, const Tensor& weight, int64_t precision);
// Checks those of rank2_weight_grad.
Rank2Shape check_weight_grad(const Tensor& grad_y, const Tensor& x, int64_t precision);

// All tensors below are contiguous.
void rank2_linear_cpu(const Rank2Shape& shape, const Tensor& x, const Tensor& weight, double eps, Tensor& y,
                      Tensor* norm);
void rank2_linear_backward_cpu(const Rank2Shape& shape, const Rank2BackwardArgs& args, const Tensor& x,
                               const Tensor& weight, Tensor& grad_x, Tensor& grad_weight);

}  // namespace dtnn
