// SPDX-License-Identifier: MIT
// atom_update and atom_readout on CUDA.
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

}  // namespace

void atom_network_cuda(const char* op, const TileProgram& program, const AtomNetwork& network,
                       std::vector<Tensor*> outputs) {
  if (network.weights->scalar_type() == ScalarType::Float) return run<float>(op, program, network, outputs);
  return run<double>(op, program, network, outputs);
}

}  // namespace dtnn
#endif
