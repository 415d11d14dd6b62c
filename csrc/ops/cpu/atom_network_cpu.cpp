// SPDX-License-Identifier: MIT
#include "ops/atom_network.h"
#include "ops/cpu/tensor_large_pages.h"
#include "ops/cpu/tile_blocks.h"

namespace dtnn {
namespace {

template <typename T>
TileMemory<T> memory_of(const AtomNetwork& network) {
  TileMemory<T> memory;
  for (const Tensor* input : network.inputs) memory.inputs.push_back(input->const_data_ptr<T>());
  memory.weights = network.weights->const_data_ptr<T>();
  return memory;
}

template <typename T>
void forward(const TileProgram& program, const AtomNetwork& network, const std::vector<Tensor*>& outputs) {
  TileMemory<T> memory = memory_of<T>(network);
  for (Tensor* output : outputs) memory.outputs.push_back(output->mutable_data_ptr<T>());
  const std::vector<Bf16Terms> bf16 = bf16_weights(program, memory.weights, 1, network.precision, false);
  memory.bf16 = member_of(bf16, 0);
  run_network(program, network.rows, memory);
}

template <typename T>
void backward(const TileProgram& program, const AtomNetwork& network, const std::vector<const Tensor*>& grad_outputs,
              const std::vector<Tensor*>& grad_inputs, Tensor* grad_weights) {
  TileMemory<T> memory = memory_of<T>(network);
  for (const Tensor* grad : grad_outputs) {
    memory.grad_outputs.push_back(grad == nullptr ? nullptr : grad->const_data_ptr<T>());
  }
  for (Tensor* grad : grad_inputs)
    memory.grad_inputs.push_back(grad == nullptr ? nullptr : grad->mutable_data_ptr<T>());
  memory.grad_weights = grad_weights == nullptr ? nullptr : grad_weights->mutable_data_ptr<T>();
  const std::vector<Bf16Terms> bf16 = bf16_weights(program, memory.weights, 1, network.precision, true);
  memory.bf16 = member_of(bf16, 0);
  run_network_backward(program, network.rows, memory);
}

}  // namespace

void atom_network_cpu(const char*, const TileProgram& program, const AtomNetwork& network,
                      std::vector<Tensor*> outputs) {
  for (Tensor* output : outputs) advise_large_pages(*output);
  if (network.weights->scalar_type() == ScalarType::Float) return forward<float>(program, network, outputs);
  return forward<double>(program, network, outputs);
}

void atom_network_backward_cpu(const char*, const TileProgram& program, const AtomNetwork& network,
                               const std::vector<const Tensor*>& grad_outputs, std::vector<Tensor*> grad_inputs,
                               Tensor* grad_weights) {
  if (network.weights->scalar_type() == ScalarType::Float) {
    return backward<float>(program, network, grad_outputs, grad_inputs, grad_weights);
  }
  return backward<double>(program, network, grad_outputs, grad_inputs, grad_weights);
}

}  // namespace dtnn
