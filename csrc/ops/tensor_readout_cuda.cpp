// SPDX-License-Identifier: MIT
// The torch side of the CUDA kernels of tensor_readout.
#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"
#include "ops/cuda/tensor_readout.h"
#include "ops/tensor_readout.h"

namespace dtnn {
namespace {

// Faults that no kernel reports, because without atoms or crystals it reads nothing.
void check_counts(const char* op, int64_t num_atoms, int64_t num_crystals) {
  DTNN_CHECK(num_crystals > 0 || num_atoms == 0, op, ": expected `ptr` from 0 to the number of atoms, ", num_atoms,
             ", got one number for 0 crystals");
}

template <typename T>
const char* launch(const ReadoutInputs& inputs, Tensor& epsilon, void* stream) {
  const Tensor& scalar = inputs.atom_scalar;
  const int64_t num_atoms = scalar.size(0), channels = scalar.size(1);
  Tensor workspace =
      torch::stable::new_empty(scalar, {cuda::tensor_readout_workspace(num_atoms, channels)}, ScalarType::Byte);
  const cuda::TensorReadoutArgs<T> args{scalar.const_data_ptr<T>(),
                                        inputs.atom_vector.const_data_ptr<T>(),
                                        inputs.atom_rank2.const_data_ptr<T>(),
                                        inputs.ptr.const_data_ptr<int64_t>(),
                                        epsilon.mutable_data_ptr<T>(),
                                        workspace.mutable_data_ptr(),
                                        num_atoms,
                                        channels,
                                        epsilon.size(0),
                                        error_sink("tensor_readout", scalar)};
  return cuda::launch_tensor_readout(args, stream);
}

template <typename T>
const char* launch_backward(const Tensor& grad, const Tensor& atom_vector, const Tensor& ptr, ReadoutGrads& grads,
                            void* stream) {
  const cuda::TensorReadoutBackwardArgs<T> args{grad.const_data_ptr<T>(),
                                                atom_vector.const_data_ptr<T>(),
                                                ptr.const_data_ptr<int64_t>(),
                                                grads.grad_scalar.mutable_data_ptr<T>(),
                                                grads.grad_vector.mutable_data_ptr<T>(),
                                                grads.grad_rank2.mutable_data_ptr<T>(),
                                                atom_vector.size(0),
                                                atom_vector.size(2),
                                                grad.size(0),
                                                error_sink("tensor_readout_backward", atom_vector)};
  return cuda::launch_tensor_readout_backward(args, stream);
}

}  // namespace

void tensor_readout_cuda(const ReadoutInputs& inputs, Tensor& epsilon) {
  const char* op = "tensor_readout";
  check_counts(op, inputs.atom_scalar.size(0), epsilon.size(0));
  const OnDeviceOf device(inputs.atom_scalar);
  void* const stream = current_cuda_stream(op, inputs.atom_scalar);
  const char* const error = inputs.atom_scalar.scalar_type() == ScalarType::Float
                                ? launch<float>(inputs, epsilon, stream)
                                : launch<double>(inputs, epsilon, stream);
  check_launch(op, error, inputs.atom_scalar, stream);
}

void tensor_readout_backward_cuda(const Tensor& grad, const Tensor& atom_vector, const Tensor& ptr,
                                  ReadoutGrads& grads) {
  const char* op = "tensor_readout_backward";
  check_counts(op, atom_vector.size(0), grad.size(0));
  const OnDeviceOf device(atom_vector);
  void* const stream = current_cuda_stream(op, atom_vector);
  const char* const error = atom_vector.scalar_type() == ScalarType::Float
                                ? launch_backward<float>(grad, atom_vector, ptr, grads, stream)
                                : launch_backward<double>(grad, atom_vector, ptr, grads, stream);
  check_launch(op, error, atom_vector, stream);
}

}  // namespace dtnn
#endif
