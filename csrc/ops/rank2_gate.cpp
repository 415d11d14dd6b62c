// SPDX-License-Identifier: MIT
#include "ops/rank2_gate.h"

#include <torch/csrc/stable/library.h>

#include <array>
#include <tuple>

namespace dtnn {

Rank2Shape check_gate(const Tensor& x, const Tensor& gate, const Tensor& weight, const std::optional<Tensor>& residual,
                      int64_t precision) {
  const char* op = "rank2_gate";
  const Rank2Shape shape = check_rank2(op, x, weight);
  check_invariants(op, "gate", gate, shape, x);
  if (residual.has_value()) check_components(op, "residual", *residual, shape, x);
  check_precision(op, precision);
  return shape;
}

Rank2Shape check_gate_backward(const Tensor& grad_out, const Tensor& x, const Tensor& gate, const Tensor& weight,
                               const std::optional<Tensor>& linear, const Rank2GateNeeds& needs, int64_t precision) {
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

using OptionalTensor = std::optional<Tensor>;

// torch's own sigmoid: its vector exponential, and the bits of the twin.
Tensor sigmoid(const Tensor& gate) {
  std::array<StableIValue, 1> stack{torch::stable::detail::from(gate)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sigmoid", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::contiguous(torch::stable::detail::to<Tensor>(stack[0]));
}

std::tuple<Tensor, Tensor> gate_on_cpu(const Tensor& x, const Tensor& gate, const Tensor& weight,
                                       const OptionalTensor& residual, bool save_linear, int64_t precision) {
  const Rank2Shape shape = check_gate(x, gate, weight, residual, precision);
  OptionalTensor added;
  if (residual.has_value()) added = torch::stable::contiguous(*residual);
  Tensor out = torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out});
  Tensor linear = save_linear ? torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out})
                              : torch::stable::new_empty(x, {0});
  rank2_gate_cpu(shape, torch::stable::contiguous(x), sigmoid(gate), transposed_weight(weight),
                 added.has_value() ? &*added : nullptr, out, save_linear ? &linear : nullptr);
  return {out, linear};
}

std::tuple<Tensor, Tensor, Tensor> backward_on_cpu(const Tensor& grad_out, const Tensor& x, const Tensor& gate,
                                                   const Tensor& weight, const OptionalTensor& saved, bool need_x,
                                                   bool need_gate, bool need_weight, int64_t precision) {
  const Rank2Shape shape =
      check_gate_backward(grad_out, x, gate, weight, saved, {need_x, need_gate, need_weight}, precision);
  // The kernel computes all three in one pass; without `linear` nobody reads the gradient of the gate.
  const Tensor& linear = saved.has_value() ? *saved : grad_out;
  Rank2GateGrads grads{torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_in}),
                       torch::stable::new_empty(x, {shape.num_atoms, shape.channels_out}),
                       torch::stable::new_empty(x, {shape.channels_out, shape.channels_in})};
  rank2_gate_backward_cpu(shape, torch::stable::contiguous(grad_out), torch::stable::contiguous(x), sigmoid(gate),
                          torch::stable::contiguous(weight), torch::stable::contiguous(linear), grads);
  const Tensor none = torch::stable::new_empty(x, {0});
  return {need_x ? grads.grad_x : none, need_gate ? grads.grad_gate : none, need_weight ? grads.grad_weight : none};
}

}  // namespace
}  // namespace dtnn

STABLE_TORCH_LIBRARY_FRAGMENT(dtnn_fast, library) {
  library.def(
      "rank2_gate(Tensor x, Tensor gate, Tensor weight, Tensor? residual, bool save_linear, int precision=0) "
      "-> (Tensor, Tensor)");
  library.def(
      "rank2_gate_backward(Tensor grad_out, Tensor x, Tensor gate, Tensor weight, Tensor? linear, bool need_x=True, "
      "bool need_gate=True, bool need_weight=True, int precision=0) "
      "-> (Tensor, Tensor, Tensor)");
}
#ifndef DTNN_EMULATE_CUDA
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, CPU, library) {
  library.impl("rank2_gate", TORCH_BOX(&dtnn::gate_on_cpu));
  library.impl("rank2_gate_backward", TORCH_BOX(&dtnn::backward_on_cpu));
}
#endif
