// SPDX-License-Identifier: MIT
#include "ops/rank2_gate.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

namespace dtnn {
namespace {

using OptionalTensor = std::optional<Tensor>;

std::tuple<Tensor, Tensor> gate_on_cpu(const Tensor& x, const Tensor& gate, const Tensor& weight,
                                       const OptionalTensor& residual, bool save_linear) {
  const char* op = "rank2_gate";
  const Rank2Shape shape = check_rank2(op, x, weight);
  check_invariants(op, "gate", gate, shape, x);
  OptionalTensor added;
  if (residual.has_value()) {
    check_components(op, "residual", *residual, shape, x);
    added = torch::stable::contiguous(*residual);
  }
  Tensor out = torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out});
  Tensor linear = save_linear ? torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out})
                              : torch::stable::new_empty(x, {0});
  rank2_gate_cpu(shape, torch::stable::contiguous(x), torch::stable::contiguous(gate),
                 torch::stable::contiguous(weight), added.has_value() ? &*added : nullptr, out,
                 save_linear ? &linear : nullptr);
  return {out, linear};
}

std::tuple<Tensor, Tensor, Tensor> backward_on_cpu(const Tensor& grad_out, const Tensor& x, const Tensor& gate,
                                                   const Tensor& weight, const Tensor& linear) {
  const char* op = "rank2_gate_backward";
  const Rank2Shape shape = check_rank2(op, x, weight);
  check_invariants(op, "gate", gate, shape, x);
  check_components(op, "grad_out", grad_out, shape, x);
  check_components(op, "linear", linear, shape, x);
  Rank2GateGrads grads{torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_in}),
                       torch::stable::new_empty(x, {shape.num_atoms, shape.channels_out}),
                       torch::stable::new_empty(x, {shape.channels_out, shape.channels_in})};
  rank2_gate_backward_cpu(shape, torch::stable::contiguous(grad_out), torch::stable::contiguous(x),
                          torch::stable::contiguous(gate), torch::stable::contiguous(weight),
                          torch::stable::contiguous(linear), grads);
  return {grads.grad_x, grads.grad_gate, grads.grad_weight};
}

}  // namespace
}  // namespace dtnn

STABLE_TORCH_LIBRARY_FRAGMENT(dtnn_fast, library) {
  library.def(
      "rank2_gate(Tensor x, Tensor gate, Tensor weight, Tensor? residual, bool save_linear) -> (Tensor, Tensor)");
  library.def(
      "rank2_gate_backward(Tensor grad_out, Tensor x, Tensor gate, Tensor weight, Tensor linear) "
      "-> (Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, CPU, library) {
  library.impl("rank2_gate", TORCH_BOX(&dtnn::gate_on_cpu));
  library.impl("rank2_gate_backward", TORCH_BOX(&dtnn::backward_on_cpu));
}
