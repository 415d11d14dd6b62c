// SPDX-License-Identifier: MIT
// bond_messages and its backward on CUDA: allocates temporaries, and enqueues on the current stream.
#ifdef DTNN_WITH_CUDA

#include "cuda_stream.h"
#include "ops/bond_messages.h"
#include "ops/cuda/bond_messages.h"

namespace dtnn {
namespace {

cuda::MessageSizes sizes_of(const char* op, const MessageShape& s) {
  // Without atoms no kernel runs that would report this.
  DTNN_CHECK(s.num_atoms > 0 || s.num_bonds == 0, op, ": expected `row_ptr` from 0 to the number of bonds, ",
             s.num_bonds, ", got one number for 0 atoms");
  return {s.num_atoms, s.num_bonds, s.scalars, s.vectors, s.radial, s.hidden, s.outputs(), s.features()};
}

template <typename T>
cuda::MessageArgs<T> arguments_of(const char* op, const MessageShape& shape, const MessageInputs& in,
                                  const MessageProducts& products) {
  return {sizes_of(op, shape),
          in.q.const_data_ptr<T>(),
          in.tau.const_data_ptr<T>(),
          in.atom_hidden.const_data_ptr<T>(),
          in.bond_scalar.const_data_ptr<T>(),
          in.bond_vector.const_data_ptr<T>(),
          in.direction.const_data_ptr<T>(),
          in.envelope.const_data_ptr<T>(),
          in.radial.const_data_ptr<T>(),
          in.hidden_weight.const_data_ptr<T>(),
          in.hidden_bias.const_data_ptr<T>(),
          in.out_weight.const_data_ptr<T>(),
          in.out_bias.const_data_ptr<T>(),
          data_or_null<T>(in.turn),
          data_or_null<T>(in.turn_counts),
          in.ends.pairs.const_data_ptr<int64_t>(),
          in.ends.row_ptr.const_data_ptr<int64_t>(),
          in.ends.neighbor_order->const_data_ptr<int64_t>(),
          in.ends.neighbor_row_ptr->const_data_ptr<int64_t>(),
          static_cast<cuda::Precision>(products.precision),
          error_sink(op, in.q)};
}

template <typename T>
void forward(const MessageShape& shape, const MessageInputs& inputs, const MessageProducts& products,
             MessageOutputs& outputs) {
  const char* op = "bond_messages";
  const OnDeviceOf device(inputs.q);
  void* const stream = current_cuda_stream(op, inputs.q);
  const cuda::MessageArgs<T> args = arguments_of<T>(op, shape, inputs, products);
  const cuda::MessageResults<T> results{outputs.scalar.mutable_data_ptr<T>(), outputs.vector.mutable_data_ptr<T>(),
                                        outputs.sum_scalar.mutable_data_ptr<T>(),
                                        outputs.sum_vector.mutable_data_ptr<T>(),
                                        outputs.sum_rank2.mutable_data_ptr<T>()};
  Tensor workspace = torch::stable::new_empty(inputs.q, {cuda::messages_workspace(args.sizes)});
  check_launch(op, cuda::launch_bond_messages(args, results, workspace.mutable_data_ptr<T>(), stream), inputs.q,
               stream);
}

template <typename T>
void backward(const MessageShape& shape, const MessageInputs& inputs, const MessageProducts& products,
              const MessageOutputGrads& output_grads, const MessageNeeds& needs, MessageGrads& grads) {
  const char* op = "bond_messages_backward";
  const OnDeviceOf device(inputs.q);
  void* const stream = current_cuda_stream(op, inputs.q);
  const cuda::MessageArgs<T> args = arguments_of<T>(op, shape, inputs, products);
  const cuda::MessageResultGrads<T> result_grads{
      data_or_null<T>(output_grads.scalar), data_or_null<T>(output_grads.vector),
      data_or_null<T>(output_grads.sum_scalar), data_or_null<T>(output_grads.sum_vector),
      data_or_null<T>(output_grads.sum_rank2)};
  const auto if_needed = [](bool needed, Tensor& tensor) { return needed ? tensor.mutable_data_ptr<T>() : nullptr; };
  const cuda::MessageInputGrads<T> input_grads{needs.geometry,
                                               needs.weights,
                                               grads.q.mutable_data_ptr<T>(),
                                               grads.tau.mutable_data_ptr<T>(),
                                               grads.atom_hidden.mutable_data_ptr<T>(),
                                               grads.bond_scalar.mutable_data_ptr<T>(),
                                               grads.bond_vector.mutable_data_ptr<T>(),
                                               if_needed(needs.geometry, grads.direction),
                                               if_needed(needs.geometry, grads.envelope),
                                               if_needed(needs.geometry, grads.radial),
                                               if_needed(needs.weights, grads.hidden_weight),
                                               if_needed(needs.weights, grads.hidden_bias),
                                               if_needed(needs.weights, grads.out_weight),
                                               if_needed(needs.weights, grads.out_bias)};
  Tensor workspace = torch::stable::new_empty(inputs.q, {cuda::messages_backward_workspace(args.sizes, needs.weights)});
  const char* const error =
      cuda::launch_bond_messages_backward(args, result_grads, input_grads, workspace.mutable_data_ptr<T>(), stream);
  check_launch(op, error, inputs.q, stream);
}

}  // namespace

void bond_messages_backward_cuda(const MessageShape& shape, const MessageInputs& inputs,
                                 const MessageProducts& products, const MessageOutputGrads& output_grads,
                                 const MessageNeeds& needs, MessageGrads& grads) {
  if (inputs.q.scalar_type() == ScalarType::Float) {
    return backward<float>(shape, inputs, products, output_grads, needs, grads);
  }
  return backward<double>(shape, inputs, products, output_grads, needs, grads);
}

void bond_messages_cuda(const MessageShape& shape, const MessageInputs& inputs, const MessageProducts& products,
                        MessageOutputs& outputs) {
  if (inputs.q.scalar_type() == ScalarType::Float) return forward<float>(shape, inputs, products, outputs);
  return forward<double>(shape, inputs, products, outputs);
}

}  // namespace dtnn

#endif
