// SPDX-License-Identifier: MIT
// atom_update and atom_readout on CUDA, with gradients.
#ifdef DTNN_WITH_CUDA

#include "ops/atom_network.h"
#include "ops/tile_program_cuda.h"

namespace dtnn {
namespace {

template <typename T>
void run(const char* op, const TileProgram& program, const AtomNetwork& network, const std::vector<Tensor*>& outputs) {
  const Tensor& weights = *network.weights;
  const OnDeviceOf device(weights);
  void* const stream = current_cuda_stream(op, weights);
  TileProgramLaunch<T> launch(program);
  for (size_t i = 0; i < network.inputs.size(); ++i) launch.input(i, network.inputs[i]->const_data_ptr<T>());
  for (size_t o = 0; o < outputs.size(); ++o) launch.output(o, outputs[o]->mutable_data_ptr<T>());
  launch.run(op, weights, {weights.const_data_ptr<T>(), 0, 1, network.rows}, stream);
}

template <typename T>
void run_backward(const char* op, const TileProgram& program, const AtomNetwork& network,
                  const std::vector<const Tensor*>& grad_outputs, const std::vector<Tensor*>& grad_inputs,
                  Tensor* grad_weights) {
  const Tensor& weights = *network.weights;
  const OnDeviceOf device(weights);
  void* const stream = current_cuda_stream(op, weights);
  const auto data_of = [](Tensor* tensor) { return tensor == nullptr ? nullptr : tensor->mutable_data_ptr<T>(); };
  cuda::TileBackwardArgs<T> args{{}, {}, weights.const_data_ptr<T>(), data_of(grad_weights), 1, network.rows};
  for (size_t i = 0; i < network.inputs.size(); ++i) {
    args.inputs.push_back({network.inputs[i]->const_data_ptr<T>(), data_of(grad_inputs[i]), 0});
  }
  std::vector<bool> given;
  for (const Tensor* grad : grad_outputs) {
    given.push_back(grad != nullptr);
    args.grad_outputs.push_back({grad == nullptr ? nullptr : grad->const_data_ptr<T>(), 0});
  }
  run_tile_backward<T>(op, weights, program, given, std::vector<bool>(given.size(), false), args, stream,
                       [](cuda::TileBackwardRun<T>&, int64_t) {});
}

}  // namespace

void atom_network_cuda(const char* op, const TileProgram& program, const AtomNetwork& network,
                       std::vector<Tensor*> outputs) {
  if (network.weights->scalar_type() == ScalarType::Float) return run<float>(op, program, network, outputs);
  return run<double>(op, program, network, outputs);
}

void atom_network_backward_cuda(const char* op, const TileProgram& program, const AtomNetwork& network,
                                const std::vector<const Tensor*>& grad_outputs, std::vector<Tensor*> grad_inputs,
                                Tensor* grad_weights) {
  if (network.weights->scalar_type() == ScalarType::Float) {
    return run_backward<float>(op, program, network, grad_outputs, grad_inputs, grad_weights);
  }
  return run_backward<double>(op, program, network, grad_outputs, grad_inputs, grad_weights);
}

}  // namespace dtnn
#endif
