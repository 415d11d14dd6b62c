// SPDX-License-Identifier: MIT
// For the torch side of a CUDA kernel: the tensor's device as the current one, its current stream, errors of launches
// and of kernels, and the dispatch key.
//
// With -DDTNN_EMULATE_CUDA the same code runs on the host emulation of CUDA: device memory is host memory, so the
// CUDA functions are registered for CPU tensors, in place of the CPU kernels (docs/cuda_emulation.md).
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "check.h"
#include "ops/cuda/device_errors.h"
#include "optional_tensor.h"

#ifdef DTNN_EMULATE_CUDA
#define DTNN_CUDA_KEY CPU
#else
#define DTNN_CUDA_KEY CUDA
#endif

// Weak: a CPU build of torch does not have it, and the binary must load there all the same.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void**);

namespace dtnn {

// Makes the device of a tensor the current one until the end of the block.
class OnDeviceOf {
 public:
#ifdef DTNN_EMULATE_CUDA
  explicit OnDeviceOf(const Tensor&) {}
#else
  explicit OnDeviceOf(const Tensor& tensor) : guard_(tensor.get_device_index()) {}

 private:
  torch::stable::accelerator::DeviceGuard guard_;
#endif
};

// The number of a tensor's device.
inline int32_t cuda_device(const Tensor& tensor) {
#ifdef DTNN_EMULATE_CUDA
  static_cast<void>(tensor);
  return 0;
#else
  return tensor.get_device_index();
#endif
}

// Whether every launch is waited for and its error raised by the call that made it (csrc/device_errors.cpp).
bool immediate_device_errors();

// Raises the error that a kernel of an earlier call has noted on `device`, the current one, if any.
void raise_device_error(int32_t device, void* stream);

// The stream to launch on; raises the error of an earlier call on this device first.
inline void* current_cuda_stream([[maybe_unused]] const char* op, const Tensor& tensor) {
  void* stream = nullptr;
#ifndef DTNN_EMULATE_CUDA
  DTNN_CHECK(&aoti_torch_get_current_cuda_stream != nullptr, op, ": this torch has no CUDA");
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
#endif
  raise_device_error(cuda_device(tensor), stream);
  return stream;
}

// For operations that wait for the device, to allocate what they return.
inline void check_not_capturing(const char* op, void* stream, const char* instead = "") {
  DTNN_CHECK(!cuda::is_capturing(stream), op, ": waits for the device, so it cannot be captured into a CUDA graph",
             instead);
}

// A copy in host memory: waits for all work on the current stream.
inline Tensor to_cpu(const Tensor& tensor) {
  return torch::stable::to(tensor, torch::stable::Device(torch::headeronly::DeviceType::CPU));
}
inline OptionalTensor to_cpu(const OptionalTensor& tensor) {
  return tensor ? OptionalTensor(to_cpu(*tensor)) : std::nullopt;
}

// Where the kernels of one launch on the device of `tensor` note bad indices.
inline cuda::ErrorSink error_sink(const char* op, const Tensor& tensor) {
  const char* problem = nullptr;
  const cuda::ErrorSink sink = cuda::make_error_sink(op, cuda_device(tensor), &problem);
  DTNN_CHECK(problem == nullptr, op, ": no record for the errors of kernels: ", problem == nullptr ? "" : problem);
  return sink;
}

// A launcher returns null or CUDA's error text.
inline void check_launch(const char* op, const char* error) {
  DTNN_CHECK(error == nullptr, op, ": CUDA launch failed: ", error == nullptr ? "" : error);
}

// For a launch with an error sink: in the immediate mode waits for it, and raises its error.
void check_launch(const char* op, const char* error, const Tensor& tensor, void* stream);

}  // namespace dtnn
