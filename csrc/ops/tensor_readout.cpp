// SPDX-License-Identifier: MIT
#include "ops/tensor_readout.h"

#include <string>
#include <tuple>

#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"
#endif

namespace dtnn {
namespace {

void check_ptr(const char* op, const char* values_name, const Tensor& values, const Tensor& ptr) {
  check_dtype(op, "ptr", ptr, ScalarType::Long);
  check_shape(op, "ptr", ptr, "[B+1]", {kAny});
  check_same_device(op, "ptr", ptr, values_name, values);
  DTNN_CHECK(ptr.size(0) >= 1, op, ": expected `ptr` of shape [B+1], got [0]");
}

void check_atom_values(const char* op, const char* name, const Tensor& values, const Tensor& scalar,
                       int64_t components) {
  check_same_dtype(op, name, values, "atom_scalar", scalar);
  check_same_device(op, name, values, "atom_scalar", scalar);
  const std::string wanted = "[N, " + std::to_string(components) + ", C] = [" + std::to_string(scalar.size(0)) + ", " +
                             std::to_string(components) + ", " + std::to_string(scalar.size(1)) + "]";
  check_shape(op, name, values, wanted.c_str(), {scalar.size(0), components, scalar.size(1)});
}

using Forward = void (*)(const ReadoutInputs&, Tensor&);
using Backward = void (*)(const Tensor&, const Tensor&, const Tensor&, ReadoutGrads&);

template <Forward kernel>
Tensor readout_on(const Tensor& atom_scalar, const Tensor& atom_vector, const Tensor& atom_rank2, const Tensor& ptr) {
  const char* op = "tensor_readout";
  check_floating(op, "atom_scalar", atom_scalar);
  check_shape(op, "atom_scalar", atom_scalar, "[N, C]", {kAny, kAny});
  check_atom_values(op, "atom_vector", atom_vector, atom_scalar, 3);
  check_atom_values(op, "atom_rank2", atom_rank2, atom_scalar, 6);
  check_ptr(op, "atom_scalar", atom_scalar, ptr);
  Tensor epsilon = torch::stable::new_empty(atom_scalar, {ptr.size(0) - 1, 3, 3});
  kernel({torch::stable::contiguous(atom_scalar), torch::stable::contiguous(atom_vector),
          torch::stable::contiguous(atom_rank2), torch::stable::contiguous(ptr)},
         epsilon);
  return epsilon;
}

template <Backward kernel>
std::tuple<Tensor, Tensor, Tensor> backward_on(const Tensor& grad, const Tensor& atom_vector, const Tensor& ptr) {
  const char* op = "tensor_readout_backward";
  check_floating(op, "atom_vector", atom_vector);
  check_shape(op, "atom_vector", atom_vector, "[N, 3, C]", {kAny, 3, kAny});
  check_ptr(op, "atom_vector", atom_vector, ptr);
  check_same_dtype(op, "grad", grad, "atom_vector", atom_vector);
  check_same_device(op, "grad", grad, "atom_vector", atom_vector);
  const std::string wanted = "[B, 3, 3] with B = " + std::to_string(ptr.size(0) - 1) + " as in `ptr`";
  check_shape(op, "grad", grad, wanted.c_str(), {ptr.size(0) - 1, 3, 3});
  const int64_t num_atoms = atom_vector.size(0), channels = atom_vector.size(2);
  ReadoutGrads grads{torch::stable::new_empty(atom_vector, {num_atoms, channels}),
                     torch::stable::new_empty(atom_vector, {num_atoms, 3, channels}),
                     torch::stable::new_empty(atom_vector, {num_atoms, 6, channels})};
  kernel(torch::stable::contiguous(grad), torch::stable::contiguous(atom_vector), torch::stable::contiguous(ptr),
         grads);
  return {grads.grad_scalar, grads.grad_vector, grads.grad_rank2};
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def("tensor_readout(Tensor atom_scalar, Tensor atom_vector, Tensor atom_rank2, Tensor ptr) -> Tensor");
  library.def("tensor_readout_backward(Tensor grad, Tensor atom_vector, Tensor ptr) -> (Tensor, Tensor, Tensor)");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("tensor_readout", TORCH_BOX(&dtnn::readout_on<dtnn::tensor_readout_cpu>));
  library.impl("tensor_readout_backward", TORCH_BOX(&dtnn::backward_on<dtnn::tensor_readout_backward_cpu>));
}
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("tensor_readout", TORCH_BOX(&dtnn::readout_on<dtnn::tensor_readout_cuda>));
  library.impl("tensor_readout_backward", TORCH_BOX(&dtnn::backward_on<dtnn::tensor_readout_backward_cuda>));
}
#endif
