// SPDX-License-Identifier: MIT
// Shared by the torch sides of rank2_linear and rank2_gate on CUDA: views of tensors for the launchers of
// ops/cuda/rank2.h.
#pragma once

#include "cuda_stream.h"
#include "ops/cuda/rank2.h"
#include "ops/rank2_linear.h"

namespace dtnn {

// The sizes of a forward product; backward, in and out change places.
inline cuda::Rank2Sizes forward_sizes(const Rank2Shape& shape) {
  return {shape.num_atoms, shape.components, shape.channels_in, shape.channels_out};
}
inline cuda::Rank2Sizes backward_sizes(const Rank2Shape& shape) {
  return {shape.num_atoms, shape.components, shape.channels_out, shape.channels_in};
}

// The weight [D, C] with any strides, as a factor from C to D channels, and from D to C.
template <typename T>
cuda::Rank2Weight<T> forward_weight(const Tensor& weight) {
  return {weight.const_data_ptr<T>(), weight.strides()[1], weight.strides()[0]};
}
template <typename T>
cuda::Rank2Weight<T> backward_weight(const Tensor& weight) {
  return {weight.const_data_ptr<T>(), weight.strides()[0], weight.strides()[1]};
}

template <typename T>
cuda::Rank2Rows<T> given_rows(const Tensor& rows) {
  cuda::Rank2Rows<T> result{};
  result.origin = cuda::Rank2Rows<T>::kGiven;
  result.rows = rows.const_data_ptr<T>();
  return result;
}

// Enqueues the gradient of the weight [D, C] on the current stream; `x` is contiguous.
template <typename T>
Tensor weight_grad_on_cuda(const char* op, const Rank2Shape& shape, const cuda::Rank2Rows<T>& total, const Tensor& x,
                           int64_t precision, void* stream) {
  const cuda::Rank2Sizes sizes = forward_sizes(shape);
  Tensor grad_weight = torch::stable::new_empty(x, {shape.channels_out, shape.channels_in});
  Tensor partial =
      torch::stable::new_empty(x, {cuda::rank2_weight_grad_partials(sizes), shape.channels_out, shape.channels_in});
  const cuda::Rank2WeightGradArgs<T> args{total,
                                          x.const_data_ptr<T>(),
                                          grad_weight.mutable_data_ptr<T>(),
                                          partial.mutable_data_ptr<T>(),
                                          sizes,
                                          static_cast<cuda::Precision>(precision)};
  check_launch(op, cuda::launch_rank2_weight_grad(args, stream));
  return grad_weight;
}

}  // namespace dtnn
