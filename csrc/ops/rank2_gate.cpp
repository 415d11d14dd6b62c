// SPDX-License-Identifier: MIT
#include "ops/rank2_gate.h"

#include <tuple>

#include "registration.h"

namespace dtnn {

Rank2Shape check_gate(const Tensor& x, const Tensor& gate, const Tensor& weight, const OptionalTensor& residual,
                      int64_t precision) {
  const char* op = "rank2_gate";
  const Rank2Shape shape = check_rank2(op, x, weight);
  check_invariants(op, "gate", gate, shape, x);
  if (residual.has_value()) check_components(op, "residual", *residual, shape, x);
  check_precision(op, precision);
  return shape;
}

Rank2Shape check_gate_backward(const Tensor& grad_out, const Tensor& x, const Tensor& gate, const Tensor& weight,
                               const OptionalTensor& linear, const Rank2GateNeeds& needs, int64_t precision) {
  const char* op = "rank2_gate_backward";
  const Rank2Shape shape = check_rank2(op, x, weight);
  check_invariants(op, "gate", gate, shape, x);
  check_components(op, "grad_out", grad_out, shape, x);
  DTNN_CHECK(linear.has_value() || !needs.gate, op, ": expected `linear` for the gradient of `gate`, got none");
  if (linear.has_value()) check_components(op, "linear", *linear, shape, x);
  check_precision(op, precision);
  return shape;
}

namespace {

std::tuple<Tensor, Tensor> gate_on_cpu(const Tensor& x, const Tensor& gate, const Tensor& weight,
                                       const OptionalTensor& residual, bool save_linear, int64_t precision) {
  const Rank2Shape shape = check_gate(x, gate, weight, residual, precision);
  const OptionalTensor added = contiguous(residual);
  Tensor out = torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out});
  Tensor linear = save_linear ? torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out})
                              : torch::stable::new_empty(x, {0});
  rank2_gate_cpu(shape, torch::stable::contiguous(x), torch::stable::contiguous(gate),
                 torch::stable::contiguous(weight), added.has_value() ? &*added : nullptr, out,
                 save_linear ? &linear : nullptr);
  return {out, linear};
}

std::tuple<Tensor, Tensor, Tensor> backward_on_cpu(const Tensor& grad_out, const Tensor& x, const Tensor& gate,
                                                   const Tensor& weight, const OptionalTensor& linear, bool need_x,
                                                   bool need_gate, bool need_weight, int64_t precision) {
  const Rank2GateNeeds needs{need_x, need_gate, need_weight};
  const Rank2Shape shape = check_gate_backward(grad_out, x, gate, weight, linear, needs, precision);
  Rank2GateGrads grads{torch::stable::new_empty(x, {0}), torch::stable::new_empty(x, {0}),
                       torch::stable::new_empty(x, {0})};
  if (need_x) grads.grad_x = torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_in});
  if (need_gate) grads.grad_gate = torch::stable::new_empty(x, {shape.num_atoms, shape.channels_out});
  if (need_weight) grads.grad_weight = torch::stable::new_empty(x, {shape.channels_out, shape.channels_in});
  OptionalTensor mixed;
  if (need_gate) mixed = torch::stable::contiguous(*linear);
  rank2_gate_backward_cpu(shape, torch::stable::contiguous(grad_out), torch::stable::contiguous(x),
                          torch::stable::contiguous(gate), torch::stable::contiguous(weight),
                          mixed.has_value() ? &*mixed : nullptr, needs, grads);
  return {grads.grad_x, grads.grad_gate, grads.grad_weight};
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "rank2_gate(Tensor x, Tensor gate, Tensor weight, Tensor? residual, bool save_linear, int precision=0) "
      "-> (Tensor, Tensor)");
  library.def(
      "rank2_gate_backward(Tensor grad_out, Tensor x, Tensor gate, Tensor weight, Tensor? linear, bool need_x=True, "
      "bool need_gate=True, bool need_weight=True, int precision=0) "
      "-> (Tensor, Tensor, Tensor)");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("rank2_gate", TORCH_BOX(&dtnn::gate_on_cpu));
  library.impl("rank2_gate_backward", TORCH_BOX(&dtnn::backward_on_cpu));
}
#endif
