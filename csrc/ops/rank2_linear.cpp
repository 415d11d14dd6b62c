// SPDX-License-Identifier: MIT
#include "ops/rank2_linear.h"

#include <cmath>
#include <string>
#include <tuple>

#include "registration.h"

namespace dtnn {

Rank2Shape check_rank2(const char* op, const Tensor& x, const Tensor& weight) {
  check_floating(op, "x", x);
  check_shape(op, "x", x, "[N, K, C]", {kAny, kAny, kAny});
  const int64_t components = x.size(1);
  DTNN_CHECK(components == 1 || components == 3 || components == 6, op,
             ": expected `x` of shape [N, K, C] with K = 1, 3 or 6, got ", describe_shape(x));
  check_same_dtype(op, "weight", weight, "x", x);
  check_same_device(op, "weight", weight, "x", x);
  const std::string wanted = "[D, C] with C = " + std::to_string(x.size(2)) + " as in `x`";
  check_shape(op, "weight", weight, wanted.c_str(), {kAny, x.size(2)});
  return {x.size(0), components, x.size(2), weight.size(0)};
}

void check_components(const char* op, const char* name, const Tensor& tensor, const Rank2Shape& shape, const Tensor& x,
                      bool channels_out) {
  const int64_t channels = channels_out ? shape.channels_out : shape.channels_in;
  check_same_dtype(op, name, tensor, "x", x);
  check_same_device(op, name, tensor, "x", x);
  std::string wanted = channels_out ? "[N, K, D]" : "[N, K, C]";
  wanted += " = [" + std::to_string(shape.num_atoms) + ", " + std::to_string(shape.components) + ", " +
            std::to_string(channels) + "]";
  check_shape(op, name, tensor, wanted.c_str(), {shape.num_atoms, shape.components, channels});
}

void check_invariants(const char* op, const char* name, const Tensor& tensor, const Rank2Shape& shape,
                      const Tensor& x) {
  check_same_dtype(op, name, tensor, "x", x);
  check_same_device(op, name, tensor, "x", x);
  const std::string wanted =
      "[N, D] = [" + std::to_string(shape.num_atoms) + ", " + std::to_string(shape.channels_out) + "]";
  check_shape(op, name, tensor, wanted.c_str(), {shape.num_atoms, shape.channels_out});
}

void check_precision(const char* op, int64_t precision) {
  DTNN_CHECK(precision >= 0 && precision <= 2, op, ": expected `precision` 0 (float32), 1 (tf32) or 2 (bfloat16), got ",
             precision);
}

void check_eps(const char* op, double eps, ScalarType type) {
  DTNN_CHECK(eps > 0 && std::isfinite(eps), op, ": expected `eps` above 0 and finite, got ", eps);
  // Without it the norm would have no gradient at 0.
  const double squared = type == ScalarType::Float ? static_cast<float>(eps) * static_cast<float>(eps) : eps * eps;
  DTNN_CHECK(squared > 0 && std::isfinite(squared), op, ": expected `eps` with a square that ", describe_dtype(type),
             " can hold, got ", eps);
}

Rank2Shape check_linear_backward(Rank2BackwardArgs& args, const Tensor& x, const Tensor& weight, int64_t precision) {
  const char* op = "rank2_linear_backward";
  const Rank2Shape shape = check_rank2(op, x, weight);
  check_precision(op, precision);
  DTNN_CHECK(args.grad_y.has_value() || args.grad_norm.has_value(), op,
             ": expected `grad_y` or `grad_norm`, got neither");
  if (args.grad_y.has_value()) check_components(op, "grad_y", *args.grad_y, shape, x);
  if (args.grad_norm.has_value()) {
    DTNN_CHECK(args.y.has_value() && args.norm.has_value(), op, ": expected `y` and `norm` with `grad_norm`, got none");
    check_eps(op, args.eps, x.scalar_type());
    check_invariants(op, "grad_norm", *args.grad_norm, shape, x);
    check_components(op, "y", *args.y, shape, x);
    check_invariants(op, "norm", *args.norm, shape, x);
  }
  for (OptionalTensor* tensor : {&args.grad_y, &args.grad_norm, &args.y, &args.norm}) {
    if (tensor->has_value()) *tensor = torch::stable::contiguous(**tensor);
  }
  return shape;
}

Rank2Shape check_weight_grad(const Tensor& grad_y, const Tensor& x, int64_t precision) {
  const char* op = "rank2_weight_grad";
  check_floating(op, "x", x);
  check_shape(op, "x", x, "[N, K, C]", {kAny, kAny, kAny});
  check_shape(op, "grad_y", grad_y, "[N, K, D]", {kAny, kAny, kAny});
  check_precision(op, precision);
  const Rank2Shape shape{x.size(0), x.size(1), x.size(2), grad_y.size(2)};
  check_components(op, "grad_y", grad_y, shape, x);
  return shape;
}

namespace {

using TensorPair = std::tuple<Tensor, Tensor>;

Tensor linear_on_cpu(const Tensor& x, const Tensor& weight, int64_t precision) {
  const Rank2Shape shape = check_rank2("rank2_linear", x, weight);
  check_precision("rank2_linear", precision);
  Tensor y = torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out});
  rank2_linear_cpu(shape, torch::stable::contiguous(x), torch::stable::contiguous(weight), 0, y, nullptr);
  return y;
}

TensorPair linear_norm_on_cpu(const Tensor& x, const Tensor& weight, double eps, int64_t precision) {
  const Rank2Shape shape = check_rank2("rank2_linear", x, weight);
  check_precision("rank2_linear", precision);
  check_eps("rank2_linear", eps, x.scalar_type());
  Tensor y = torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_out});
  Tensor norm = torch::stable::new_empty(x, {shape.num_atoms, shape.channels_out});
  rank2_linear_cpu(shape, torch::stable::contiguous(x), torch::stable::contiguous(weight), eps, y, &norm);
  return {y, norm};
}

TensorPair backward_on_cpu(const OptionalTensor& grad_y, const OptionalTensor& grad_norm, const OptionalTensor& y,
                           const OptionalTensor& norm, const Tensor& x, const Tensor& weight, double eps, bool need_x,
                           bool need_weight, int64_t precision) {
  Rank2BackwardArgs args{grad_y, grad_norm, y, norm, eps, need_x, need_weight};
  const Rank2Shape shape = check_linear_backward(args, x, weight, precision);
  Tensor grad_x = need_x ? torch::stable::new_empty(x, {shape.num_atoms, shape.components, shape.channels_in})
                         : torch::stable::new_empty(x, {0});
  Tensor grad_weight = need_weight ? torch::stable::new_empty(x, {shape.channels_out, shape.channels_in})
                                   : torch::stable::new_empty(x, {0});
  rank2_linear_backward_cpu(shape, args, torch::stable::contiguous(x), torch::stable::contiguous(weight), grad_x,
                            grad_weight);
  return {grad_x, grad_weight};
}

Tensor weight_grad_on_cpu(const Tensor& grad_y, const Tensor& x, int64_t precision) {
  const Rank2Shape shape = check_weight_grad(grad_y, x, precision);
  Tensor unused = torch::stable::new_empty(x, {0});
  Tensor grad_weight = torch::stable::new_empty(x, {shape.channels_out, shape.channels_in});
  const Rank2BackwardArgs args{torch::stable::contiguous(grad_y), {}, {}, {}, 0, false, true};
  rank2_linear_backward_cpu(shape, args, torch::stable::contiguous(x), unused, unused, grad_weight);
  return grad_weight;
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def("rank2_linear(Tensor x, Tensor weight, int precision=0) -> Tensor");
  library.def("rank2_linear_norm(Tensor x, Tensor weight, float eps, int precision=0) -> (Tensor, Tensor)");
  library.def(
      "rank2_linear_backward(Tensor? grad_y, Tensor? grad_norm, Tensor? y, Tensor? norm, Tensor x, Tensor weight, "
      "float eps, bool need_x, bool need_weight, int precision=0) -> (Tensor, Tensor)");
  library.def("rank2_weight_grad(Tensor grad_y, Tensor x, int precision=0) -> Tensor");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("rank2_linear", TORCH_BOX(&dtnn::linear_on_cpu));
  library.impl("rank2_linear_norm", TORCH_BOX(&dtnn::linear_norm_on_cpu));
  library.impl("rank2_linear_backward", TORCH_BOX(&dtnn::backward_on_cpu));
  library.impl("rank2_weight_grad", TORCH_BOX(&dtnn::weight_grad_on_cpu));
}
#endif
