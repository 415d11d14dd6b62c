// SPDX-License-Identifier: MIT
// What every operation does around its launch: the current CUDA stream of a tensor's device, and the errors of kernels.
// A torch::stable::accelerator::DeviceGuard for that device is held by the caller.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "check.h"
#include "ops/cuda/device_errors.h"

// Weak: a CPU build of torch does not have it, and the binary must load there all the same.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void**);

namespace dtnn {

// Whether every launch is waited for and its error raised by the call that made it (csrc/device_errors.cpp).
bool immediate_device_errors();

// Raises the error that a kernel of an earlier call has noted on `device`, the current one, if any.
void raise_device_error(int32_t device, void* stream);

// The stream to launch on; raises the error of an earlier call on this device first.
inline void* current_cuda_stream(const char* op, const Tensor& tensor) {
  DTNN_CHECK(&aoti_torch_get_current_cuda_stream != nullptr, op, ": this torch has no CUDA");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  raise_device_error(tensor.get_device_index(), stream);
  return stream;
}

// Where the kernels of one launch on the device of `tensor` note bad indices.
inline cuda::ErrorSink error_sink(const char* op, const Tensor& tensor) {
  const char* problem = nullptr;
  const cuda::ErrorSink sink = cuda::make_error_sink(op, tensor.get_device_index(), &problem);
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
