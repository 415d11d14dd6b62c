// SPDX-License-Identifier: MIT
#include "ops/atom_network.h"

#include <string>
#include <tuple>

#include "check_sizes.h"
#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"  // DTNN_CUDA_KEY
#endif

namespace dtnn {
namespace {

constexpr double kNormEps = 0.01;       // as in rank2_linear
constexpr double kLayerNormEps = 1e-5;  // as in torch

struct Channels {
  int64_t scalar;
  int64_t vector;
  int64_t rank2;
};

struct AtomValues {
  TileValueId scalar;
  TileValueId vector;
  TileValueId rank2;
};

// A vector or tensor that is divided by sqrt(1 + mean |x|^2), and its smooth norm divided alike.
struct SoftNormalised {
  TileValueId components;
  TileValueId norm;
};

SoftNormalised soft_normalised(TileProgram& p, TileValueId x) {
  const TileValueId norm = p.norm(x, kNormEps);
  const TileValueId scale = p.soft_scale(norm);
  return {p.scale_rows(x, scale), p.scale_rows(norm, scale)};
}

// Splits the outputs of a layer.
struct Columns {
  TileProgram& program;
  TileValueId x;
  TileMatrix matrix;
  int64_t bias;
  int64_t used = 0;

  TileValueId next(int64_t count) {
    used += count;
    return program.linear({{x, cols_of(matrix, used - count, count)}}, bias + used - count);
  }
};

TileProgram update_program(const Channels& c, bool need_atoms, bool need_sums, bool need_weights) {
  TileProgram p(need_weights);
  const AtomValues atom{p.input(1, c.scalar, need_atoms), p.input(3, c.vector, need_atoms),
                        p.input(6, c.rank2, need_atoms)};
  const AtomValues sum{p.input(1, c.scalar, need_sums), p.input(3, c.vector, need_sums),
                       p.input(6, c.vector, need_sums)};
  const TileMatrix vector_mix = p.matrix(2 * c.vector, c.vector);
  const TileMatrix rank2_mix = p.matrix(c.rank2 + c.vector, c.vector);
  const TileMatrix first = p.matrix(2 * c.scalar + 4 * c.vector, c.scalar);
  const int64_t first_bias = p.vector(c.scalar);
  const TileMatrix second = p.matrix(c.scalar, c.scalar + 4 * c.vector);
  const int64_t second_bias = p.vector(c.scalar + 4 * c.vector);
  const TileMatrix rank2_out = p.matrix(c.vector, c.rank2);

  const auto [x, x_norm] = soft_normalised(p, p.linear({{atom.vector, rows_of(vector_mix, 0, c.vector)},
                                                        {sum.vector, rows_of(vector_mix, c.vector, c.vector)}}));
  const auto [y, y_norm] = soft_normalised(
      p, p.linear({{atom.rank2, rows_of(rank2_mix, 0, c.rank2)}, {sum.rank2, rows_of(rank2_mix, c.rank2, c.vector)}}));
  const TileValueId m = p.times_vector(y, x);
  std::vector<LinearTerm> invariants;
  int64_t row = 0;
  for (TileValueId id :
       {p.layer_norm(atom.scalar, kLayerNormEps), sum.scalar, x_norm, y_norm, p.trace(y), p.dot(x, m)}) {
    const int64_t channels = p.values()[static_cast<size_t>(id)].channels;
    invariants.push_back({id, rows_of(first, row, channels)});
    row += channels;
  }
  Columns columns{p, p.silu(p.linear(invariants, first_bias)), second, second_bias};
  const TileValueId change = columns.next(c.scalar);
  const TileValueId g1 = columns.next(c.vector), g2 = columns.next(c.vector), g3 = columns.next(c.vector),
                    g4 = columns.next(c.vector);
  p.output(p.add(atom.scalar, change));
  p.output(p.gated_sum(g1, x, g2, m, atom.vector));
  p.output(p.add(atom.rank2, p.linear({{p.gated_sum(g3, y, g4, p.square(x)), all_of(rank2_out)}})));
  return p;
}

TileProgram readout_program(const Channels& c, const Channels& out, bool need_atoms, bool need_weights) {
  TileProgram p(need_weights);
  const AtomValues atom{p.input(1, c.scalar, need_atoms), p.input(3, c.vector, need_atoms),
                        p.input(6, c.rank2, need_atoms)};
  const TileMatrix first = p.matrix(c.scalar, c.scalar);
  const int64_t first_bias = p.vector(c.scalar);
  const int64_t gates = c.scalar + 2 * out.vector + 2 * out.rank2;
  const TileMatrix second = p.matrix(c.scalar, gates);
  const int64_t second_bias = p.vector(gates);
  const TileMatrix scalar = p.matrix(c.scalar, out.scalar);
  const int64_t scalar_bias = p.vector(out.scalar);
  const TileMatrix hidden = p.matrix(c.scalar, out.scalar);
  const TileMatrix vector = p.matrix(c.vector, out.vector), rank2 = p.matrix(c.rank2, out.rank2);
  const TileMatrix vector_in = p.matrix(c.vector, c.vector), rank2_in = p.matrix(c.rank2, c.vector);
  const TileMatrix turned = p.matrix(c.vector, out.vector), squared = p.matrix(c.vector, out.rank2);

  const TileValueId normed = p.layer_norm(atom.scalar, kLayerNormEps);
  Columns columns{p, p.silu(p.linear({{normed, all_of(first)}}, first_bias)), second, second_bias};
  const TileValueId h = columns.next(c.scalar), g1 = columns.next(out.vector), g2 = columns.next(out.vector),
                    g3 = columns.next(out.rank2), g4 = columns.next(out.rank2);
  const auto bounded = [&](TileValueId value) { return p.scale_rows(value, p.soft_scale(value)); };
  const TileValueId x = bounded(p.linear({{atom.vector, all_of(vector_in)}}));
  const TileValueId y = bounded(p.linear({{atom.rank2, all_of(rank2_in)}}));
  p.output(p.linear({{atom.scalar, all_of(scalar)}, {h, all_of(hidden)}}, scalar_bias));
  const TileValueId v = p.linear({{atom.vector, all_of(vector)}});
  p.output(p.gated_sum(g1, v, g2, p.linear({{p.times_vector(y, x), all_of(turned)}}), v));
  const TileValueId t = p.linear({{atom.rank2, all_of(rank2)}});
  p.output(p.traceless(p.gated_sum(g3, t, g4, p.linear({{p.square(x), all_of(squared)}}), t)));
  return p;
}

// The checks that all operations of this file share.
struct Checker {
  const char* op;
  const Tensor& first;

  void like(const char* name, const Tensor& tensor) const {
    check_same_dtype(op, name, tensor, "scalar", first);
    check_same_device(op, name, tensor, "scalar", first);
  }
  // The size of the last dimension; kAny accepts every size.
  int64_t channels(const char* name, const Tensor& tensor, int64_t components, int64_t wanted) const {
    like(name, tensor);
    const std::string c = wanted == kAny ? "C" : std::to_string(wanted);
    const std::string shape = components == 1 ? "[N, " + c + "]" : "[N, " + std::to_string(components) + ", " + c + "]";
    const std::string text = shape + " with N = " + std::to_string(first.size(0)) + " as in `scalar`";
    if (components == 1) {
      check_shape(op, name, tensor, text.c_str(), {first.size(0), wanted});
    } else {
      check_shape(op, name, tensor, text.c_str(), {first.size(0), components, wanted});
    }
    return tensor.size(components == 1 ? 1 : 2);
  }
  Channels atoms(const Tensor& vector, const Tensor& rank2) const {
    check_floating(op, "scalar", first);
    check_shape(op, "scalar", first, "[N, S]", {kAny, kAny});
    DTNN_CHECK(first.size(1) >= 1, op, ": expected `scalar` of shape [N, S] with S of 1 or more, got ",
               describe_shape(first));
    const Channels c{first.size(1), channels("vector", vector, 3, kAny), channels("rank2", rank2, 6, kAny)};
    DTNN_CHECK(c.vector >= 1, op, ": expected `vector` with at least one channel, got ", describe_shape(vector));
    return c;
  }
  void weights(const Tensor& weights, const TileProgram& program) const {
    like("weights", weights);
    check_sizes(op, "weights", weights, "[P]", {program.num_weights()});
  }
  void grads(const OptionalTensor& scalar, const OptionalTensor& vector, const OptionalTensor& rank2,
             const Channels& c) const {
    if (scalar.has_value()) channels("grad_scalar", *scalar, 1, c.scalar);
    if (vector.has_value()) channels("grad_vector", *vector, 3, c.vector);
    if (rank2.has_value()) channels("grad_rank2", *rank2, 6, c.rank2);
  }
};

using ThreeTensors = std::tuple<Tensor, Tensor, Tensor>;

Tensor dense(const Tensor& tensor) { return torch::stable::contiguous(tensor); }

using Kernel = void (*)(const char*, const TileProgram&, const AtomNetwork&, std::vector<Tensor*>);

// Runs a program; outputs have the channels `out`.
ThreeTensors run(Kernel kernel, const char* op, const TileProgram& program, const std::vector<Tensor>& inputs,
                 const Tensor& weights, const Channels& out) {
  const Tensor& first = inputs[0];
  const int64_t rows = first.size(0);
  Tensor scalar = torch::stable::new_empty(first, {rows, out.scalar});
  Tensor vector = torch::stable::new_empty(first, {rows, 3, out.vector});
  Tensor rank2 = torch::stable::new_empty(first, {rows, 6, out.rank2});
  AtomNetwork network{{}, &weights, rows};
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
                                 bool need_weights) {
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
  AtomNetwork network{{}, &weights, inputs[0].size(0)};
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
                       const Tensor& sum_vector, const Tensor& sum_rank2, const Tensor& weights) {
  const Checker check{"atom_update", scalar};
  const Channels c = check.atoms(vector, rank2);
  check.channels("sum_scalar", sum_scalar, 1, c.scalar);
  check.channels("sum_vector", sum_vector, 3, c.vector);
  check.channels("sum_rank2", sum_rank2, 6, c.vector);
  const TileProgram program = update_program(c, false, false, false);
  check.weights(weights, program);
  return run(kernel, check.op, program,
             {dense(scalar), dense(vector), dense(rank2), dense(sum_scalar), dense(sum_vector), dense(sum_rank2)},
             dense(weights), c);
}

using SevenTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <BackwardKernel kernel>
SevenTensors update_backward_on(const OptionalTensor& grad_scalar, const OptionalTensor& grad_vector,
                                const OptionalTensor& grad_rank2, const Tensor& scalar, const Tensor& vector,
                                const Tensor& rank2, const Tensor& sum_scalar, const Tensor& sum_vector,
                                const Tensor& sum_rank2, const Tensor& weights, bool need_atoms, bool need_sums,
                                bool need_weights) {
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
                   {need_atoms, need_atoms, need_atoms, need_sums, need_sums, need_sums}, need_weights);
  return {g[0], g[1], g[2], g[3], g[4], g[5], g[6]};
}

Channels check_outputs(const char* op, int64_t scalar_out, int64_t vector_out, int64_t rank2_out,
                       const Tensor& weights) {
  const int64_t most = weights.defined() ? weights.numel() : 0;
  const auto fits = [&](int64_t count) { return count >= 1 && count <= most; };
  DTNN_CHECK(fits(scalar_out) && fits(vector_out) && fits(rank2_out), op,
             ": expected `scalar_out`, `vector_out` and `rank2_out` of 1 or more, for which there are weights, got ",
             scalar_out, ", ", vector_out, ", ", rank2_out);
  return {scalar_out, vector_out, rank2_out};
}

template <Kernel kernel>
ThreeTensors readout_on(const Tensor& scalar, const Tensor& vector, const Tensor& rank2, const Tensor& weights,
                        int64_t scalar_out, int64_t vector_out, int64_t rank2_out) {
  const Checker check{"atom_readout", scalar};
  const Channels c = check.atoms(vector, rank2);
  check.like("weights", weights);
  const Channels out = check_outputs(check.op, scalar_out, vector_out, rank2_out, weights);
  const TileProgram program = readout_program(c, out, false, false);
  check.weights(weights, program);
  return run(kernel, check.op, program, {dense(scalar), dense(vector), dense(rank2)}, dense(weights), out);
}

template <BackwardKernel kernel>
std::tuple<Tensor, Tensor, Tensor, Tensor> readout_backward_on(
    const OptionalTensor& grad_scalar, const OptionalTensor& grad_vector, const OptionalTensor& grad_rank2,
    const Tensor& scalar, const Tensor& vector, const Tensor& rank2, const Tensor& weights, int64_t scalar_out,
    int64_t vector_out, int64_t rank2_out, bool need_atoms, bool need_weights) {
  const Checker check{"atom_readout_backward", scalar};
  const Channels c = check.atoms(vector, rank2);
  check.like("weights", weights);
  const Channels out = check_outputs(check.op, scalar_out, vector_out, rank2_out, weights);
  check.grads(grad_scalar, grad_vector, grad_rank2, out);
  const TileProgram program = readout_program(c, out, need_atoms, need_weights);
  check.weights(weights, program);
  const std::vector<Tensor> g =
      run_backward(kernel, check.op, program, {dense(scalar), dense(vector), dense(rank2)}, dense(weights),
                   {grad_scalar, grad_vector, grad_rank2}, {need_atoms, need_atoms, need_atoms}, need_weights);
  return {g[0], g[1], g[2], g[3]};
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "atom_update(Tensor scalar, Tensor vector, Tensor rank2, Tensor sum_scalar, Tensor sum_vector, Tensor sum_rank2, "
      "Tensor weights) -> (Tensor, Tensor, Tensor)");
  library.def(
      "atom_update_backward(Tensor? grad_scalar, Tensor? grad_vector, Tensor? grad_rank2, Tensor scalar, "
      "Tensor vector, Tensor rank2, Tensor sum_scalar, Tensor sum_vector, Tensor sum_rank2, Tensor weights, "
      "bool need_atoms=True, bool need_sums=True, bool need_weights=True) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "atom_readout(Tensor scalar, Tensor vector, Tensor rank2, Tensor weights, int scalar_out, int vector_out, "
      "int rank2_out) -> (Tensor, Tensor, Tensor)");
  library.def(
      "atom_readout_backward(Tensor? grad_scalar, Tensor? grad_vector, Tensor? grad_rank2, Tensor scalar, "
      "Tensor vector, Tensor rank2, Tensor weights, int scalar_out, int vector_out, int rank2_out, "
      "bool need_atoms=True, bool need_weights=True) -> (Tensor, Tensor, Tensor, Tensor)");
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
