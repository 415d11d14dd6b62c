// SPDX-License-Identifier: MIT
#include "ops/atom_network.h"

#include <tuple>

#include "ops/atom_network_arguments.h"
#include "ops/atom_network_programs.h"
#include "ops/rank2_linear.h"  // check_precision
#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"  // DTNN_CUDA_KEY
#endif

namespace dtnn {
namespace {

using ThreeTensors = std::tuple<Tensor, Tensor, Tensor>;

using Kernel = void (*)(const char*, const TileProgram&, const AtomNetwork&, std::vector<Tensor*>);

// Runs a program; outputs have the channels `out`.
ThreeTensors run(Kernel kernel, const char* op, const TileProgram& program, const std::vector<Tensor>& inputs,
                 const Tensor& weights, const Channels& out, int64_t precision) {
  check_precision(op, precision);
  const Tensor& first = inputs[0];
  const int64_t rows = first.size(0);
  Tensor scalar = torch::stable::new_empty(first, {rows, out.scalar});
  Tensor vector = torch::stable::new_empty(first, {rows, 3, out.vector});
  Tensor rank2 = torch::stable::new_empty(first, {rows, 6, out.rank2});
  AtomNetwork network{{}, &weights, rows, precision};
  for (const Tensor& input : inputs) network.inputs.push_back(&input);
  kernel(op, program, network, {&scalar, &vector, &rank2});
  return {scalar, vector, rank2};
}

using BackwardKernel = void (*)(const char*, const TileProgram&, const AtomNetwork&, const std::vector<const Tensor*>&,
                                std::vector<Tensor*>, Tensor*);

// Gradients of the inputs, those of the weights last.
std::vector<Tensor> run_backward(BackwardKernel kernel, const char* op, const TileProgram& program,
                                 const std::vector<Tensor>& inputs, const Tensor& weights,
                                 const std::vector<OptionalTensor>& grad_outputs, const std::vector<bool>& needed,
                                 bool need_weights, int64_t precision) {
  check_precision(op, precision);
  std::vector<Tensor> grads;
  for (size_t i = 0; i < inputs.size(); ++i) {
    grads.push_back(needed[i] ? torch::stable::empty_like(inputs[i]) : torch::stable::new_empty(weights, {0}));
  }
  grads.push_back(need_weights ? torch::stable::empty_like(weights) : torch::stable::new_empty(weights, {0}));
  std::vector<Tensor> dense_grads(grad_outputs.size());
  std::vector<const Tensor*> given;
  for (size_t o = 0; o < grad_outputs.size(); ++o) {
    if (grad_outputs[o].has_value()) dense_grads[o] = dense(*grad_outputs[o]);
    given.push_back(grad_outputs[o].has_value() ? &dense_grads[o] : nullptr);
  }
  AtomNetwork network{{}, &weights, inputs[0].size(0), precision};
  std::vector<Tensor*> wanted;
  for (size_t i = 0; i < inputs.size(); ++i) {
    network.inputs.push_back(&inputs[i]);
    wanted.push_back(needed[i] ? &grads[i] : nullptr);
  }
  kernel(op, program, network, given, wanted, need_weights ? &grads.back() : nullptr);
  return grads;
}

template <Kernel kernel>
ThreeTensors update_on(const Tensor& scalar, const Tensor& vector, const Tensor& rank2, const Tensor& sum_scalar,
                       const Tensor& sum_vector, const Tensor& sum_rank2, const Tensor& weights, int64_t precision) {
  const Checker check{"atom_update", scalar};
  const Channels c = check.atoms(vector, rank2);
  check.channels("sum_scalar", sum_scalar, 1, c.scalar);
  check.channels("sum_vector", sum_vector, 3, c.vector);
  check.channels("sum_rank2", sum_rank2, 6, c.vector);
  const TileProgram program = update_program(c, false, false, false);
  check.weights(weights, program);
  return run(kernel, check.op, program,
             {dense(scalar), dense(vector), dense(rank2), dense(sum_scalar), dense(sum_vector), dense(sum_rank2)},
             dense(weights), c, precision);
}

using SevenTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <BackwardKernel kernel>
SevenTensors update_backward_on(const OptionalTensor& grad_scalar, const OptionalTensor& grad_vector,
                                const OptionalTensor& grad_rank2, const Tensor& scalar, const Tensor& vector,
                                const Tensor& rank2, const Tensor& sum_scalar, const Tensor& sum_vector,
                                const Tensor& sum_rank2, const Tensor& weights, bool need_atoms, bool need_sums,
                                bool need_weights, int64_t precision) {
  const Checker check{"atom_update_backward", scalar};
  const Channels c = check.atoms(vector, rank2);
  check.channels("sum_scalar", sum_scalar, 1, c.scalar);
  check.channels("sum_vector", sum_vector, 3, c.vector);
  check.channels("sum_rank2", sum_rank2, 6, c.vector);
  check.grads(grad_scalar, grad_vector, grad_rank2, c);
  const TileProgram program = update_program(c, need_atoms, need_sums, need_weights);
  check.weights(weights, program);
  const std::vector<Tensor> g =
      run_backward(kernel, check.op, program,
                   {dense(scalar), dense(vector), dense(rank2), dense(sum_scalar), dense(sum_vector), dense(sum_rank2)},
                   dense(weights), {grad_scalar, grad_vector, grad_rank2},
                   {need_atoms, need_atoms, need_atoms, need_sums, need_sums, need_sums}, need_weights, precision);
  return {g[0], g[1], g[2], g[3], g[4], g[5], g[6]};
}

template <Kernel kernel>
ThreeTensors readout_on(const Tensor& scalar, const Tensor& vector, const Tensor& rank2, const Tensor& weights,
                        int64_t scalar_out, int64_t vector_out, int64_t rank2_out, int64_t precision) {
  const Checker check{"atom_readout", scalar};
  const Channels c = check.atoms(vector, rank2);
  check.like("weights", weights);
  const Channels out = check_outputs(check.op, scalar_out, vector_out, rank2_out, weights);
  const TileProgram program = readout_program(c, out, false, false);
  check.weights(weights, program);
  return run(kernel, check.op, program, {dense(scalar), dense(vector), dense(rank2)}, dense(weights), out, precision);
}

template <BackwardKernel kernel>
std::tuple<Tensor, Tensor, Tensor, Tensor> readout_backward_on(
    const OptionalTensor& grad_scalar, const OptionalTensor& grad_vector, const OptionalTensor& grad_rank2,
    const Tensor& scalar, const Tensor& vector, const Tensor& rank2, const Tensor& weights, int64_t scalar_out,
    int64_t vector_out, int64_t rank2_out, bool need_atoms, bool need_weights, int64_t precision) {
  const Checker check{"atom_readout_backward", scalar};
  const Channels c = check.atoms(vector, rank2);
  check.like("weights", weights);
  const Channels out = check_outputs(check.op, scalar_out, vector_out, rank2_out, weights);
  check.grads(grad_scalar, grad_vector, grad_rank2, out);
  const TileProgram program = readout_program(c, out, need_atoms, need_weights);
  check.weights(weights, program);
  const std::vector<Tensor> g = run_backward(kernel, check.op, program, {dense(scalar), dense(vector), dense(rank2)},
                                             dense(weights), {grad_scalar, grad_vector, grad_rank2},
                                             {need_atoms, need_atoms, need_atoms}, need_weights, precision);
  return {g[0], g[1], g[2], g[3]};
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "atom_update(Tensor scalar, Tensor vector, Tensor rank2, Tensor sum_scalar, Tensor sum_vector, Tensor sum_rank2, "
      "Tensor weights, int precision=0) -> (Tensor, Tensor, Tensor)");
  library.def(
      "atom_update_backward(Tensor? grad_scalar, Tensor? grad_vector, Tensor? grad_rank2, Tensor scalar, "
      "Tensor vector, Tensor rank2, Tensor sum_scalar, Tensor sum_vector, Tensor sum_rank2, Tensor weights, "
      "bool need_atoms=True, bool need_sums=True, bool need_weights=True, int precision=0) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "atom_readout(Tensor scalar, Tensor vector, Tensor rank2, Tensor weights, int scalar_out, int vector_out, "
      "int rank2_out, int precision=0) -> (Tensor, Tensor, Tensor)");
  library.def(
      "atom_readout_backward(Tensor? grad_scalar, Tensor? grad_vector, Tensor? grad_rank2, Tensor scalar, "
      "Tensor vector, Tensor rank2, Tensor weights, int scalar_out, int vector_out, int rank2_out, "
      "bool need_atoms=True, bool need_weights=True, int precision=0) -> (Tensor, Tensor, Tensor, Tensor)");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("atom_update", TORCH_BOX(&dtnn::update_on<dtnn::atom_network_cpu>));
  library.impl("atom_update_backward", TORCH_BOX(&dtnn::update_backward_on<dtnn::atom_network_backward_cpu>));
  library.impl("atom_readout", TORCH_BOX(&dtnn::readout_on<dtnn::atom_network_cpu>));
  library.impl("atom_readout_backward", TORCH_BOX(&dtnn::readout_backward_on<dtnn::atom_network_backward_cpu>));
}
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("atom_update", TORCH_BOX(&dtnn::update_on<dtnn::atom_network_cuda>));
  library.impl("atom_update_backward", TORCH_BOX(&dtnn::update_backward_on<dtnn::atom_network_backward_cuda>));
  library.impl("atom_readout", TORCH_BOX(&dtnn::readout_on<dtnn::atom_network_cuda>));
  library.impl("atom_readout_backward", TORCH_BOX(&dtnn::readout_backward_on<dtnn::atom_network_backward_cuda>));
}
#endif
