// SPDX-License-Identifier: MIT
// Gated channel mixing with a residual, for scalars, vectors and symmetric rank-2 tensors.
//
// rank2_gate(x [N, K, C], gate [N, D], weight [D, C], residual [N, K, D]?, save_linear, precision)
//   -> (out [N, K, D], linear)
//   linear[n, k, d] = sum_c weight[d, c] x[n, k, c]
//   out[n, k, d]    = sigmoid(gate[n, d]) linear[n, k, d] + residual[n, k, d]
//   `linear` is kept for the backward with save_linear (to read it costs less than to compute it again from about 32
//   channels on), and has shape [0] without.
// rank2_gate_backward(grad_out [N, K, D], x, gate, weight, linear [N, K, D]?, need_x, need_gate, need_weight,
// precision)
//   -> (grad_x, grad_gate, grad_weight)
//   grad_gate[n, d] = s (1 - s) sum_k grad_out[n, k, d] linear[n, k, d],   s = sigmoid(gate[n, d])
//   and, with total = s grad_out: grad_x = total weight, grad_weight = total^T x. The gradient of residual is grad_out.
//   An output that is not needed has shape [0]. Only grad_gate needs `linear`.
//
// `precision`, determinism and empties as in rank2_linear.h.
#pragma once

#include "ops/rank2_linear.h"

namespace dtnn {

// All tensors are contiguous; a null pointer is an absent part.
void rank2_gate_cpu(const Rank2Shape& shape, const Tensor& x, const Tensor& gate, const Tensor& weight,
                    const Tensor* residual, Tensor& out, Tensor* linear);

Rank2Shape check_gate(const Tensor& x, const Tensor& gate, const Tensor& weight, const OptionalTensor& residual,
                      int64_t precision);

struct Rank2GateNeeds {
  bool x;
  bool gate;
  bool weight;
};
Rank2Shape check_gate_backward(const Tensor& grad_out, const Tensor& x, const Tensor& gate, const Tensor& weight,
                               const OptionalTensor& linear, const Rank2GateNeeds& needs, int64_t precision);

struct Rank2GateGrads {
  Tensor grad_x;
  Tensor grad_gate;
  Tensor grad_weight;
};
// `linear` may be null without needs.gate; gradients that are not needed are not touched.
void rank2_gate_backward_cpu(const Rank2Shape& shape, const Tensor& grad_out, const Tensor& x, const Tensor& gate,
                             const Tensor& weight, const Tensor* linear, const Rank2GateNeeds& needs,
                             Rank2GateGrads& grads);

}  // namespace dtnn
