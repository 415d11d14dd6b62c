// SPDX-License-Identifier: MIT
// What the torch side of a CUDA kernel needs: the tensor's device as the current one, its current stream, the launcher's
// error, and the dispatch key.
//
// With -DDTNN_EMULATE_CUDA the same code runs on the host emulation of CUDA: device memory is host memory, so the
// CUDA functions are registered for CPU tensors, in place of the CPU kernels (docs/cuda_emulation.md).
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "check.h"

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

inline void* current_cuda_stream([[maybe_unused]] const char* op, [[maybe_unused]] const Tensor& tensor) {
#ifdef DTNN_EMULATE_CUDA
  return nullptr;
#else
  DTNN_CHECK(&aoti_torch_get_current_cuda_stream != nullptr, op, ": this torch has no CUDA");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return stream;
#endif
}

// A launcher returns null or CUDA's error text.
inline void check_launch(const char* op, const char* error) {
  DTNN_CHECK(error == nullptr, op, ": CUDA launch failed: ", error == nullptr ? "" : error);
}

}  // namespace dtnn
