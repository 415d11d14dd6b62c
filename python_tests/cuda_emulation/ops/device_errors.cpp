// SPDX-License-Identifier: MIT
// The record of index errors by itself, through a small kernel that compares indices with a limit.
#include "device_errors.h"

#include "bad_index.h"
#include "cases.h"

namespace {

const char* const kTexts[] = {
    "expected `indices` in [0, %N), got %V at indices[%P], one of %E",
    "expected `indices` that are even, got %V at indices[%P]",
};

// Check 0: in range; check 1: even.
__global__ void check_indices(const int64_t* indices, int64_t count, int64_t limit, dtnn::cuda::ErrorSink errors) {
  dtnn::cuda::BadIndex bad;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += int64_t{gridDim.x} * blockDim.x) {
    if (indices[i] < 0 || indices[i] >= limit) {
      bad.see(0, i, indices[i]);
    } else if (indices[i] % 2 != 0) {
      bad.see(1, i, indices[i]);
    }
  }
  bad.report(errors);
}

}  // namespace

extern "C" {
const char* device_errors_check(const int64_t* indices, int64_t count, int64_t limit, int64_t device) {
  const char* problem = nullptr;
  const dtnn::cuda::ErrorSink sink = dtnn::cuda::make_error_sink("check_indices", static_cast<int>(device), &problem);
  if (problem != nullptr) return problem;
  DTNN_LAUNCH(check_indices, 5, 64, 0, nullptr, indices, count, limit, sink.with(kTexts, limit, count));
  return dtnn::cuda::launch_error();
}

// The message of the error on `device`, null when there is none.
const char* device_errors_take(int64_t device) {
  static thread_local std::string message;
  message = dtnn::cuda::take_device_error(static_cast<int>(device), nullptr);
  return message.empty() ? nullptr : message.c_str();
}
}

DTNN_CASE(device_errors) {
  const std::vector<int64_t> good(100, 4), bad(100, 9);
  if (device_errors_check(good.data(), 100, 5, 1) != nullptr || device_errors_take(1) != nullptr) return "false alarm";
  if (device_errors_check(bad.data(), 100, 5, 1) != nullptr) return "the launch failed";
  if (device_errors_take(0) != nullptr) return "the error is on another device";
  const std::string expected = "check_indices: expected `indices` in [0, 5), got 9 at indices[0], one of 100";
  const char* const message = device_errors_take(1);
  if (message == nullptr || message != expected) return "wrong message";
  return device_errors_take(1) == nullptr ? "" : "reported twice";
}
