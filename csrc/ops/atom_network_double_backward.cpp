// SPDX-License-Identifier: MIT
// Registers the gradients of the backwards of atom_network.h.
#include <string>
#include <tuple>
#include <vector>

#include "ops/atom_network.h"
#include "ops/atom_network_arguments.h"
#include "ops/atom_network_programs.h"
#include "registration.h"

namespace dtnn {
namespace {

using SevenTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using TenTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Contiguous copies of tensors, and their addresses: null where a tensor is absent.
class Given {
 public:
  explicit Given(const std::vector<OptionalTensor>& tensors) : tensors_(tensors.size()) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].has_value()) tensors_[i] = dense(*tensors[i]);
      addresses_.push_back(tensors[i].has_value() ? &tensors_[i] : nullptr);
    }
  }
  const std::vector<const Tensor*>& addresses() const { return addresses_; }

 private:
  std::vector<Tensor> tensors_;
  std::vector<const Tensor*> addresses_;
};

// The gradients of the three grad_outputs, of `inputs` and of the weights. `changes` has an element for each input and
// for the weights.
std::vector<Tensor> run(const TileProgram& program, const std::vector<OptionalTensor>& changes,
                        const std::vector<OptionalTensor>& grad_outputs, const std::vector<Tensor>& inputs,
                        const Tensor& weights, const Channels& out, const std::vector<bool>& needed,
                        bool need_weights) {
  const int64_t rows = inputs[0].size(0);
  const auto empty = [&](std::initializer_list<int64_t> sizes) { return torch::stable::new_empty(weights, sizes); };
  const Given dense_inputs(std::vector<OptionalTensor>(inputs.begin(), inputs.end()));
  const Given dense_changes(changes), dense_grads(grad_outputs);
  const Tensor dense_weights = dense(weights);
  std::vector<Tensor> results{empty({rows, out.scalar}), empty({rows, 3, out.vector}), empty({rows, 6, out.rank2})};
  for (size_t i = 0; i < inputs.size(); ++i) {
    results.push_back(needed[i] ? torch::stable::empty_like(*dense_inputs.addresses()[i]) : empty({0}));
  }
  results.push_back(need_weights ? torch::stable::empty_like(dense_weights) : empty({0}));
  std::vector<const Tensor*> input_changes = dense_changes.addresses();
  const Tensor* weights_change = input_changes.back();
  input_changes.pop_back();
  std::vector<Tensor*> wanted;
  for (size_t i = 0; i < inputs.size(); ++i) wanted.push_back(needed[i] ? &results[3 + i] : nullptr);
  atom_network_double_backward_cpu(program, {dense_inputs.addresses(), &dense_weights, rows},
                                   {input_changes, weights_change}, dense_grads.addresses(),
                                   {&results[0], &results[1], &results[2]}, wanted,
                                   need_weights ? &results.back() : nullptr);
  return results;
}

TenTensors update_double_backward_on_cpu(const OptionalTensor& change_scalar, const OptionalTensor& change_vector,
                                         const OptionalTensor& change_rank2, const OptionalTensor& change_sum_scalar,
                                         const OptionalTensor& change_sum_vector,
                                         const OptionalTensor& change_sum_rank2, const OptionalTensor& change_weights,
                                         const OptionalTensor& grad_scalar, const OptionalTensor& grad_vector,
                                         const OptionalTensor& grad_rank2, const Tensor& scalar, const Tensor& vector,
                                         const Tensor& rank2, const Tensor& sum_scalar, const Tensor& sum_vector,
                                         const Tensor& sum_rank2, const Tensor& weights, bool need_atoms,
                                         bool need_sums, bool need_weights) {
  const Checker check{"atom_update_double_backward", scalar};
  const Channels c = check.atoms(vector, rank2);
  check.channels("sum_scalar", sum_scalar, 1, c.scalar);
  check.channels("sum_vector", sum_vector, 3, c.vector);
  check.channels("sum_rank2", sum_rank2, 6, c.vector);
  check.grads(grad_scalar, grad_vector, grad_rank2, c);
  const TileProgram program = update_program(c, need_atoms, need_sums, need_weights);
  check.weights(weights, program);
  check.optional("change_scalar", change_scalar, 1, c.scalar);
  check.optional("change_vector", change_vector, 3, c.vector);
  check.optional("change_rank2", change_rank2, 6, c.rank2);
  check.optional("change_sum_scalar", change_sum_scalar, 1, c.scalar);
  check.optional("change_sum_vector", change_sum_vector, 3, c.vector);
  check.optional("change_sum_rank2", change_sum_rank2, 6, c.vector);
  if (change_weights.has_value()) check.weights(*change_weights, program, "change_weights");
  const std::vector<Tensor> g =
      run(program,
          {change_scalar, change_vector, change_rank2, change_sum_scalar, change_sum_vector, change_sum_rank2,
           change_weights},
          {grad_scalar, grad_vector, grad_rank2}, {scalar, vector, rank2, sum_scalar, sum_vector, sum_rank2}, weights,
          c, {need_atoms, need_atoms, need_atoms, need_sums, need_sums, need_sums}, need_weights);
  return {g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7], g[8], g[9]};
}

SevenTensors readout_double_backward_on_cpu(const OptionalTensor& change_scalar, const OptionalTensor& change_vector,
                                            const OptionalTensor& change_rank2, const OptionalTensor& change_weights,
                                            const OptionalTensor& grad_scalar, const OptionalTensor& grad_vector,
                                            const OptionalTensor& grad_rank2, const Tensor& scalar,
                                            const Tensor& vector, const Tensor& rank2, const Tensor& weights,
                                            int64_t scalar_out, int64_t vector_out, int64_t rank2_out, bool need_atoms,
                                            bool need_weights) {
  const Checker check{"atom_readout_double_backward", scalar};
  const Channels c = check.atoms(vector, rank2);
  check.like("weights", weights);
  const Channels out = check_outputs(check.op, scalar_out, vector_out, rank2_out, weights);
  check.grads(grad_scalar, grad_vector, grad_rank2, out);
  const TileProgram program = readout_program(c, out, need_atoms, need_weights);
  check.weights(weights, program);
  check.optional("change_scalar", change_scalar, 1, c.scalar);
  check.optional("change_vector", change_vector, 3, c.vector);
  check.optional("change_rank2", change_rank2, 6, c.rank2);
  if (change_weights.has_value()) check.weights(*change_weights, program, "change_weights");
  const std::vector<Tensor> g =
      run(program, {change_scalar, change_vector, change_rank2, change_weights}, {grad_scalar, grad_vector, grad_rank2},
          {scalar, vector, rank2}, weights, out, {need_atoms, need_atoms, need_atoms}, need_weights);
  return {g[0], g[1], g[2], g[3], g[4], g[5], g[6]};
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "atom_update_double_backward(Tensor? change_scalar, Tensor? change_vector, Tensor? change_rank2, "
      "Tensor? change_sum_scalar, Tensor? change_sum_vector, Tensor? change_sum_rank2, Tensor? change_weights, "
      "Tensor? grad_scalar, Tensor? grad_vector, Tensor? grad_rank2, Tensor scalar, Tensor vector, Tensor rank2, "
      "Tensor sum_scalar, Tensor sum_vector, Tensor sum_rank2, Tensor weights, bool need_atoms=True, "
      "bool need_sums=True, bool need_weights=True) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "atom_readout_double_backward(Tensor? change_scalar, Tensor? change_vector, Tensor? change_rank2, "
      "Tensor? change_weights, Tensor? grad_scalar, Tensor? grad_vector, Tensor? grad_rank2, Tensor scalar, "
      "Tensor vector, Tensor rank2, Tensor weights, int scalar_out, int vector_out, int rank2_out, "
      "bool need_atoms=True, bool need_weights=True) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}
// On CUDA torch's operations compute them (dtnn_fast/ops/_fused.py); the emulation of CUDA runs these.
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("atom_update_double_backward", TORCH_BOX(&dtnn::update_double_backward_on_cpu));
  library.impl("atom_readout_double_backward", TORCH_BOX(&dtnn::readout_double_backward_on_cpu));
}
