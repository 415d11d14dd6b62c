// SPDX-License-Identifier: MIT
#include "ops/bond_perceptron_sum.h"

#include <string>
#include <tuple>

#include "bond_ends.h"
#include "check_sizes.h"
#include "ops/rank2_linear.h"  // check_precision
#include "registration.h"
#include "sorted_bonds.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"  // DTNN_CUDA_KEY
#endif

namespace dtnn {

TileProgram bond_perceptron_program(const BondPerceptrons& args, bool scalar_needs_grad, bool weights_need_grad) {
  TileProgram program(weights_need_grad);
  const TileMatrix weight1 = program.matrix(args.channels(), args.hidden());
  const int64_t bias1 = program.vector(args.hidden());
  const TileMatrix weight2 = program.matrix(args.hidden(), args.outputs());
  const int64_t bias2 = program.vector(args.outputs());
  const TileValueId x = program.input(1, args.channels(), scalar_needs_grad);
  const TileValueId hidden = program.silu(program.linear({{x, all_of(weight1)}}, bias1));
  program.output(program.silu(program.linear({{hidden, all_of(weight2)}}, bias2)));
  return program;
}

namespace {

void check_like(const char* op, const char* name, const Tensor& tensor, const Tensor& bond_scalar) {
  check_same_dtype(op, name, tensor, "bond_scalar", bond_scalar);
  check_same_device(op, name, tensor, "bond_scalar", bond_scalar);
}

BondPerceptrons check(const char* op, const Tensor& bond_scalar, const Tensor& envelope, const Tensor& weight1,
                      const Tensor& bias1, const Tensor& weight2, const Tensor& bias2, const Tensor& pairs,
                      const Tensor& row_ptr, const OptionalTensor& sum_scalar,
                      const OptionalTensor& neighbor_order = {}, const OptionalTensor& neighbor_row_ptr = {}) {
  check_floating(op, "bond_scalar", bond_scalar);
  check_shape(op, "bond_scalar", bond_scalar, "[E, C]", {kAny, kAny});
  const int64_t bonds = bond_scalar.size(0), channels = bond_scalar.size(1);
  check_like(op, "envelope", envelope, bond_scalar);
  check_sizes(op, "envelope", envelope, "[E]", {bonds});
  check_like(op, "weight1", weight1, bond_scalar);
  const std::string first = "[M, C, H] with C = " + std::to_string(channels) + " as in `bond_scalar`";
  check_shape(op, "weight1", weight1, first.c_str(), {kAny, channels, kAny});
  const int64_t members = weight1.size(0), hidden = weight1.size(2);
  check_like(op, "bias1", bias1, bond_scalar);
  check_sizes(op, "bias1", bias1, "[M, H]", {members, hidden});
  check_like(op, "weight2", weight2, bond_scalar);
  const std::string second =
      "[M, H, D] with M = " + std::to_string(members) + " and H = " + std::to_string(hidden) + " as in `weight1`";
  check_shape(op, "weight2", weight2, second.c_str(), {members, hidden, kAny});
  check_like(op, "bias2", bias2, bond_scalar);
  check_sizes(op, "bias2", bias2, "[M, D]", {members, weight2.size(2)});
  check_pairs(op, pairs, "bond_scalar", bond_scalar);
  const std::string wanted = "[2, E] with E = " + std::to_string(bonds) + " as in `bond_scalar`";
  check_shape(op, "pairs", pairs, wanted.c_str(), {2, bonds});
  check_row_ptr(op, row_ptr, "bond_scalar", bond_scalar);
  if (sum_scalar.has_value()) {
    check_like(op, "sum_scalar", *sum_scalar, bond_scalar);
    check_sizes(op, "sum_scalar", *sum_scalar, "[2, E]", {2, bonds});
  }
  const bool sorted = neighbor_order.has_value() || neighbor_row_ptr.has_value();
  if (sorted) check_bond_ends(op, "bond_scalar", bond_scalar, pairs, row_ptr, neighbor_order, neighbor_row_ptr, 1, 1);
  const auto dense = [](const Tensor& tensor) { return torch::stable::contiguous(tensor); };
  return {dense(bond_scalar),
          dense(envelope),
          dense(weight1),
          dense(bias1),
          dense(weight2),
          dense(bias2),
          dense(pairs),
          dense(row_ptr),
          contiguous(sum_scalar),
          contiguous(neighbor_order),
          contiguous(neighbor_row_ptr)};
}

using Kernel = void (*)(const BondPerceptrons&, Tensor&, Tensor&);

// The operation on one device.
template <Kernel kernel>
std::tuple<Tensor, Tensor> sum_on(const Tensor& bond_scalar, const Tensor& envelope, const Tensor& weight1,
                                  const Tensor& bias1, const Tensor& weight2, const Tensor& bias2, const Tensor& pairs,
                                  const Tensor& row_ptr, const OptionalTensor& sum_scalar,
                                  const OptionalTensor& neighbor_order, const OptionalTensor& neighbor_row_ptr,
                                  int64_t precision) {
  BondPerceptrons args = check("bond_perceptron_sum", bond_scalar, envelope, weight1, bias1, weight2, bias2, pairs,
                               row_ptr, sum_scalar, neighbor_order, neighbor_row_ptr);
  check_precision("bond_perceptron_sum", precision);
  args.precision = precision;
  Tensor sums = torch::stable::new_empty(bond_scalar, {args.num_members(), args.num_atoms(), args.outputs()});
  Tensor envelope_sum = torch::stable::new_empty(bond_scalar, {args.num_atoms()});
  kernel(args, sums, envelope_sum);
  return {sums, envelope_sum};
}

using BackwardKernel = void (*)(const BondPerceptrons&, BondPerceptronGrads&);
using SevenTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <BackwardKernel kernel>
SevenTensors backward_on(const OptionalTensor& grad_sums, const OptionalTensor& grad_envelope_sum,
                         const Tensor& bond_scalar, const Tensor& envelope, const Tensor& weight1, const Tensor& bias1,
                         const Tensor& weight2, const Tensor& bias2, const Tensor& pairs, const Tensor& row_ptr,
                         const OptionalTensor& sum_scalar, bool need_scalar, bool need_envelope, bool need_weights,
                         bool need_sum_scalar, int64_t precision) {
  const char* op = "bond_perceptron_sum_backward";
  BondPerceptrons args = check(op, bond_scalar, envelope, weight1, bias1, weight2, bias2, pairs, row_ptr, sum_scalar);
  check_precision(op, precision);
  args.precision = precision;
  if (grad_sums.has_value()) {
    check_like(op, "grad_sums", *grad_sums, bond_scalar);
    check_sizes(op, "grad_sums", *grad_sums, "[M, N, D]", {args.num_members(), args.num_atoms(), args.outputs()});
  }
  if (grad_envelope_sum.has_value()) {
    check_like(op, "grad_envelope_sum", *grad_envelope_sum, bond_scalar);
    check_sizes(op, "grad_envelope_sum", *grad_envelope_sum, "[N]", {args.num_atoms()});
  }
  DTNN_CHECK(sum_scalar.has_value() || !need_sum_scalar, op, ": expected `sum_scalar` for its gradient, got none");
  const auto grad_of = [&](const Tensor& tensor, bool needed) {
    return needed ? torch::stable::empty_like(tensor) : torch::stable::new_empty(tensor, {0});
  };
  BondPerceptronGrads grads{contiguous(grad_sums),
                            contiguous(grad_envelope_sum),
                            need_scalar,
                            need_envelope,
                            need_weights,
                            need_sum_scalar,
                            grad_of(args.bond_scalar, need_scalar),
                            grad_of(args.envelope, need_envelope),
                            grad_of(args.weight1, need_weights),
                            grad_of(args.bias1, need_weights),
                            grad_of(args.weight2, need_weights),
                            grad_of(args.bias2, need_weights),
                            grad_of(need_sum_scalar ? *args.sum_scalar : args.envelope, need_sum_scalar)};
  kernel(args, grads);
  return {grads.scalar, grads.envelope, grads.weight1, grads.bias1, grads.weight2, grads.bias2, grads.sum_scalar};
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "bond_perceptron_sum(Tensor bond_scalar, Tensor envelope, Tensor weight1, Tensor bias1, Tensor weight2, "
      "Tensor bias2, Tensor pairs, Tensor row_ptr, Tensor? sum_scalar, Tensor? neighbor_order=None, "
      "Tensor? neighbor_row_ptr=None, int precision=0) -> (Tensor, Tensor)");
  library.def(
      "bond_perceptron_sum_backward(Tensor? grad_sums, Tensor? grad_envelope_sum, Tensor bond_scalar, Tensor envelope, "
      "Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, Tensor pairs, Tensor row_ptr, Tensor? sum_scalar, "
      "bool need_scalar=True, bool need_envelope=True, bool need_weights=True, bool need_sum_scalar=False, "
      "int precision=0) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("bond_perceptron_sum", TORCH_BOX(&dtnn::sum_on<dtnn::bond_perceptron_sum_cpu>));
  library.impl("bond_perceptron_sum_backward", TORCH_BOX(&dtnn::backward_on<dtnn::bond_perceptron_sum_backward_cpu>));
}
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("bond_perceptron_sum", TORCH_BOX(&dtnn::sum_on<dtnn::bond_perceptron_sum_cuda>));
  library.impl("bond_perceptron_sum_backward", TORCH_BOX(&dtnn::backward_on<dtnn::bond_perceptron_sum_backward_cuda>));
}
#endif
