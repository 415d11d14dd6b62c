// SPDX-License-Identifier: MIT
// Index errors of CUDA kernels become exceptions here; dtnn_fast/ops/device_errors.py has the public functions.

#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "cuda_stream.h"

namespace dtnn {
namespace {

std::atomic<bool>& immediate() {
  static std::atomic<bool> is_on = [] {
    const char* const setting = std::getenv("DTNN_FAST_IMMEDIATE_DEVICE_ERRORS");
    return setting != nullptr && *setting != '\0' && std::strcmp(setting, "0") != 0;
  }();
  return is_on;
}

}  // namespace

bool immediate_device_errors() { return immediate(); }

void raise_device_error(int32_t device, void* stream) {
  if (!cuda::has_device_error(device)) return;
  const std::string message = cuda::take_device_error(device, stream);
  DTNN_CHECK(message.empty(), message, " (an earlier call on cuda:", device, ", found when its kernel ran)");
}

void check_launch(const char* op, const char* error, const Tensor& tensor, void* stream) {
  check_launch(op, error);
  if (!immediate()) return;
  const char* problem = nullptr;
  if (!cuda::wait_for_stream(stream, &problem)) return;
  DTNN_CHECK(problem == nullptr, op, ": CUDA failed: ", problem == nullptr ? "" : problem);
  const std::string message = cuda::take_device_error(cuda_device(tensor), stream);
  DTNN_CHECK(message.empty(), message);
}

}  // namespace dtnn
#endif

namespace {

// Returns the setting before.
bool set_immediate(bool is_on) {
#ifdef DTNN_WITH_CUDA
  return dtnn::immediate().exchange(is_on);
#else
  static_cast<void>(is_on);
  return false;
#endif
}

// The device has been synchronised, and is the current one.
void raise_noted([[maybe_unused]] int64_t device) {
#ifdef DTNN_WITH_CUDA
  dtnn::raise_device_error(static_cast<int32_t>(device), nullptr);
#endif
}

}  // namespace

DTNN_LIBRARY_FRAGMENT(library) {
  library.def("set_immediate_device_errors(bool is_on) -> bool");
  library.def("raise_device_error(int device) -> ()");
}
DTNN_LIBRARY_IMPL(CompositeExplicitAutograd, library) {
  library.impl("set_immediate_device_errors", TORCH_BOX(&set_immediate));
  library.impl("raise_device_error", TORCH_BOX(&raise_noted));
}
