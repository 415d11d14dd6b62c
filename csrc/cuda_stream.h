// SPDX-License-Identifier: MIT
// The current CUDA stream of a tensor's device, for the kernels' launchers.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <optional>

#include "check.h"

// Weak: a CPU build of torch does not have it, and the binary must load there all the same.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void**);

namespace dtnn {

inline void* current_cuda_stream(const char* op, const Tensor& tensor) {
  DTNN_CHECK(&aoti_torch_get_current_cuda_stream != nullptr, op, ": this torch has no CUDA");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return stream;
}

// A copy in host memory: waits for all work on the current stream.
inline Tensor to_cpu(const Tensor& tensor) {
  return torch::stable::to(tensor, torch::stable::Device(torch::headeronly::DeviceType::CPU));
}
inline std::optional<Tensor> to_cpu(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional<Tensor>(to_cpu(*tensor)) : std::nullopt;
}

// A launcher returns null or CUDA's error text.
inline void check_launch(const char* op, const char* error) {
  DTNN_CHECK(error == nullptr, op, ": CUDA launch failed: ", error == nullptr ? "" : error);
}

}  // namespace dtnn
