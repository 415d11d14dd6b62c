// SPDX-License-Identifier: MIT
// rank2_linear and its gradients on CUDA: allocates outputs and temporaries, and enqueues on the current stream.
#ifdef DTNN_WITH_CUDA

#include <tuple>

#include "ops/rank2_cuda.h"
#include "registration.h"

namespace dtnn {
namespace {

using TensorPair = std::tuple<Tensor, Tensor>;

template <typename T>
void launch_forward(const Rank2Shape& shape, const Tensor& x, const Tensor& weight, double eps, int64_t precision,
                    Tensor& y, Tensor* norm) {
  const char* op = "rank2_linear";
  void* const stream = current_cuda_stream(op, x);
  const Tensor rows = torch::stable::contiguous(x);
  const cuda::Rank2LinearArgs<T> args{given_rows<T>(rows),
                                      forward_weight<T>(weight),
                                      y.mutable_data_ptr<T>(),
                                      norm == nullptr ? nullptr : norm->mutable_data_ptr<T>(),
                                      static_cast<T>(eps),
                                      forward_sizes(shape),
                                      static_cast<cuda::Precision>(precision)};
  check_launch(op, cuda::launch_rank2_linear(args, stream));
}

TensorPair forward(const Tensor& x, const Tensor& weight, double eps, int64_t precision, bool with_norm) {
  const char* op = "rank2_linear";
  const Rank2Shape shape = check_rank2(op, x, weight);
  check_precision(op, precision);
  if (with_norm) check_eps(op, eps, x.scalar_type());
  const OnDeviceOf device(x);
  Tensor y = torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out});
  Tensor norm = torch::stable::new_empty(x, {with_norm ? shape.num_atoms : 0, shape.channels_out});
  const auto launch = x.scalar_type() == ScalarType::Float ? launch_forward<float> : launch_forward<double>;
  launch(shape, x, weight, eps, precision, y, with_norm ? &norm : nullptr);
  return {y, norm};
}

Tensor linear_on_cuda(const Tensor& x, const Tensor& weight, int64_t precision) {
  return std::get<0>(forward(x, weight, 0, precision, false));
}

TensorPair linear_norm_on_cuda(const Tensor& x, const Tensor& weight, double eps, int64_t precision) {
  return forward(x, weight, eps, precision, true);
}

template <typename T>
TensorPair launch_backward(const Rank2Shape& shape, const Rank2BackwardArgs& args, const Tensor& x,
                           const Tensor& weight, int64_t precision) {
  const char* op = "rank2_linear_backward";
  void* const stream = current_cuda_stream(op, x);
  cuda::Rank2Rows<T> total{};
  total.rows = data_or_null<T>(args.grad_y);
  if (args.grad_norm.has_value()) {
    total.origin = cuda::Rank2Rows<T>::kThroughNorm;
    total.mixed = data_or_null<T>(args.y);
    total.invariant = data_or_null<T>(args.grad_norm);
    total.norm = data_or_null<T>(args.norm);
    total.eps = static_cast<T>(args.eps);
  } else {
    total.origin = cuda::Rank2Rows<T>::kGiven;
  }
  Tensor grad_x = torch::stable::new_empty(x, {0}), grad_weight = torch::stable::new_empty(x, {0});
  if (args.need_x) {
    grad_x = torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_in});
    const cuda::Rank2LinearArgs<T> product{
        total, backward_weight<T>(weight), grad_x.mutable_data_ptr<T>(),           nullptr,
        0,     backward_sizes(shape),      static_cast<cuda::Precision>(precision)};
    check_launch(op, cuda::launch_rank2_linear(product, stream));
  }
  if (args.need_weight) {
    grad_weight = weight_grad_on_cuda<T>(op, shape, total, torch::stable::contiguous(x), precision, stream);
  }
  return {grad_x, grad_weight};
}

TensorPair backward_on_cuda(const OptionalTensor& grad_y, const OptionalTensor& grad_norm, const OptionalTensor& y,
                            const OptionalTensor& norm, const Tensor& x, const Tensor& weight, double eps, bool need_x,
                            bool need_weight, int64_t precision) {
  Rank2BackwardArgs args{grad_y, grad_norm, y, norm, eps, need_x, need_weight};
  const Rank2Shape shape = check_linear_backward(args, x, weight, precision);
  const OnDeviceOf device(x);
  return x.scalar_type() == ScalarType::Float ? launch_backward<float>(shape, args, x, weight, precision)
                                              : launch_backward<double>(shape, args, x, weight, precision);
}

template <typename T>
Tensor launch_weight_grad(const Rank2Shape& shape, const Tensor& grad_y, const Tensor& x, int64_t precision) {
  const char* op = "rank2_weight_grad";
  void* const stream = current_cuda_stream(op, x);
  return weight_grad_on_cuda<T>(op, shape, given_rows<T>(grad_y), x, precision, stream);
}

Tensor sum_on_cuda(const Tensor& grad_y, const Tensor& x, int64_t precision) {
  const Rank2Shape shape = check_weight_grad(grad_y, x, precision);
  const OnDeviceOf device(x);
  const auto launch = x.scalar_type() == ScalarType::Float ? launch_weight_grad<float> : launch_weight_grad<double>;
  return launch(shape, torch::stable::contiguous(grad_y), torch::stable::contiguous(x), precision);
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("rank2_linear", TORCH_BOX(&dtnn::linear_on_cuda));
  library.impl("rank2_linear_norm", TORCH_BOX(&dtnn::linear_norm_on_cuda));
  library.impl("rank2_linear_backward", TORCH_BOX(&dtnn::backward_on_cuda));
  library.impl("rank2_weight_grad", TORCH_BOX(&dtnn::sum_on_cuda));
}

#endif
