// SPDX-License-Identifier: MIT
// rank2_gate and its gradients on CUDA: allocates outputs and temporaries, and enqueues on the current stream.
#ifdef DTNN_WITH_CUDA

#include <tuple>

#include "ops/rank2_cuda.h"
#include "ops/rank2_gate.h"
#include "registration.h"

namespace dtnn {
namespace {

template <typename T>
std::tuple<Tensor, Tensor> launch_forward(const Rank2Shape& shape, const Tensor& x, const Tensor& gate,
                                          const Tensor& weight, const OptionalTensor& residual, bool save_linear,
                                          int64_t precision) {
  const char* op = "rank2_gate";
  void* const stream = current_cuda_stream(op, x);
  const Tensor rows = torch::stable::contiguous(x), gates = torch::stable::contiguous(gate);
  const OptionalTensor added = contiguous(residual);
  Tensor out = torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out});
  Tensor linear = save_linear ? torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out})
                              : torch::stable::new_empty(x, {0});
  const cuda::Rank2GateArgs<T> args{rows.const_data_ptr<T>(),  gates.const_data_ptr<T>(),
                                    forward_weight<T>(weight), data_or_null<T>(added),
                                    out.mutable_data_ptr<T>(), save_linear ? linear.mutable_data_ptr<T>() : nullptr,
                                    forward_sizes(shape),      static_cast<cuda::Precision>(precision)};
  check_launch(op, cuda::launch_rank2_gate(args, stream));
  return {out, linear};
}

std::tuple<Tensor, Tensor> gate_on_cuda(const Tensor& x, const Tensor& gate, const Tensor& weight,
                                        const OptionalTensor& residual, bool save_linear, int64_t precision) {
  const Rank2Shape shape = check_gate(x, gate, weight, residual, precision);
  const OnDeviceOf device(x);
  const auto launch = x.scalar_type() == ScalarType::Float ? launch_forward<float> : launch_forward<double>;
  return launch(shape, x, gate, weight, residual, save_linear, precision);
}

// The gradient of the gate comes with that of x, in one pass over grad_out; alone only when x needs none.
template <typename T>
std::tuple<Tensor, Tensor, Tensor> launch_backward(const Rank2Shape& shape, const Tensor& grad_out, const Tensor& x,
                                                   const Tensor& gate, const Tensor& weight,
                                                   const OptionalTensor& linear, const Rank2GateNeeds& needs,
                                                   int64_t precision) {
  const char* op = "rank2_gate_backward";
  void* const stream = current_cuda_stream(op, x);
  const Tensor grads = torch::stable::contiguous(grad_out), gates = torch::stable::contiguous(gate);
  const OptionalTensor mixed = needs.gate ? contiguous(linear) : std::nullopt;
  Tensor grad_x = torch::stable::new_empty(x, {0}), grad_gate = torch::stable::new_empty(x, {0}),
         grad_weight = torch::stable::new_empty(x, {0});
  cuda::Rank2Rows<T> total{};
  total.origin = cuda::Rank2Rows<T>::kThroughGate;
  total.rows = grads.const_data_ptr<T>();
  total.invariant = gates.const_data_ptr<T>();
  if (needs.weight) {
    grad_weight = weight_grad_on_cuda<T>(op, shape, total, torch::stable::contiguous(x), precision, stream);
  }
  if (needs.gate) {
    grad_gate = torch::stable::new_empty(x, {shape.num_atoms, shape.channels_out});
    total.mixed = data_or_null<T>(mixed);
    total.grad_gate = grad_gate.mutable_data_ptr<T>();
  }
  if (needs.x) {
    grad_x = torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_in});
    const cuda::Rank2LinearArgs<T> product{
        total, backward_weight<T>(weight), grad_x.mutable_data_ptr<T>(),           nullptr,
        0,     backward_sizes(shape),      static_cast<cuda::Precision>(precision)};
    check_launch(op, cuda::launch_rank2_linear(product, stream));
  } else if (needs.gate) {
    const cuda::Rank2GateGradArgs<T> alone{total, shape.num_atoms, shape.components, shape.channels_out};
    check_launch(op, cuda::launch_rank2_gate_grad(alone, stream));
  }
  return {grad_x, grad_gate, grad_weight};
}

std::tuple<Tensor, Tensor, Tensor> backward_on_cuda(const Tensor& grad_out, const Tensor& x, const Tensor& gate,
                                                    const Tensor& weight, const OptionalTensor& linear, bool need_x,
                                                    bool need_gate, bool need_weight, int64_t precision) {
  const Rank2GateNeeds needs{need_x, need_gate, need_weight};
  const Rank2Shape shape = check_gate_backward(grad_out, x, gate, weight, linear, needs, precision);
  const OnDeviceOf device(x);
  const auto launch = x.scalar_type() == ScalarType::Float ? launch_backward<float> : launch_backward<double>;
  return launch(shape, grad_out, x, gate, weight, linear, needs, precision);
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("rank2_gate", TORCH_BOX(&dtnn::gate_on_cuda));
  library.impl("rank2_gate_backward", TORCH_BOX(&dtnn::backward_on_cuda));
}

#endif
