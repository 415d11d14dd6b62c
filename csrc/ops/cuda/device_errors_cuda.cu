// SPDX-License-Identifier: MIT
// The host's side of device_errors.h.
#include <array>
#include <atomic>
#include <mutex>
#include <new>

#include "device_errors.h"
#include "gpu.h"

namespace dtnn::cuda {
namespace {

constexpr int kMaxDevices = 64;
// Never freed: a kernel may write to its record until the process ends.
std::array<std::atomic<ErrorRecord*>, kMaxDevices> records{};
std::atomic<uint64_t> launches{0};

std::mutex& one_at_a_time() {
  static std::mutex mutex;
  return mutex;
}

// Lets this thread allocate and wait although a stream of some thread is being captured into a graph. Neither becomes
// part of the graph.
class RelaxedCapture {
 public:
  RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

bool is_capturing(void* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  const cudaError_t error = cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return true;  // the default stream, while another one is captured
  }
  return status != cudaStreamCaptureStatusNone;
}

ErrorRecord* make_record(const char** problem) {
  const RelaxedCapture relaxed;
  void* memory = nullptr;
  // Under unified addressing the device reaches pinned memory by the host's pointer.
  const cudaError_t error = cudaHostAlloc(&memory, sizeof(ErrorRecord), cudaHostAllocMapped | cudaHostAllocPortable);
  if (error != cudaSuccess) {
    cudaGetLastError();
    *problem = cudaGetErrorString(error);
    return nullptr;
  }
  return new (memory) ErrorRecord{};
}

// Kernels write behind the compiler's back.
template <typename T>
T read(const T& word) {
  return *static_cast<const volatile T*>(&word);
}

std::string message_of(const ErrorRecord& record) {
  const uint64_t key = read(record.key);
  std::string message = std::string(read(record.op)) + ": ";
  for (const char* c = read(record.texts)[key >> 56]; *c != '\0'; ++c) {
    if (*c != '%') {
      message += *c;
      continue;
    }
    switch (*++c) {
      case 'V':
        message += std::to_string(read(record.value));
        break;
      case 'P':
        message += std::to_string(key & ((uint64_t{1} << 56) - 1));
        break;
      case 'N':
        message += std::to_string(read(record.num_atoms));
        break;
      default:
        message += std::to_string(read(record.num_bonds));
    }
  }
  return message;
}

}  // namespace

ErrorSink make_error_sink(const char* op, int device, const char** problem) {
  *problem = nullptr;
  if (device < 0 || device >= kMaxDevices) {
    *problem = "expected a CUDA device below 64";
    return {};
  }
  ErrorRecord* record = records[device].load(std::memory_order_acquire);
  if (record == nullptr) {
    const std::lock_guard<std::mutex> lock(one_at_a_time());
    record = records[device].load(std::memory_order_acquire);
    if (record == nullptr) {
      record = make_record(problem);
      records[device].store(record, std::memory_order_release);
    }
  }
  return {record, ++launches, op, nullptr, 0, 0};
}

bool has_device_error(int device) {
  if (device < 0 || device >= kMaxDevices) return false;
  const ErrorRecord* const record = records[device].load(std::memory_order_acquire);
  return record != nullptr && read(record->launch) != 0;
}

std::string take_device_error(int device, void* stream) {
  if (!has_device_error(device)) return "";
  if (!is_capturing(stream)) {
    const RelaxedCapture relaxed;
    if (cudaDeviceSynchronize() != cudaSuccess) cudaGetLastError();  // what was noted so far will do
  }
  const std::lock_guard<std::mutex> lock(one_at_a_time());
  if (!has_device_error(device)) return "";  // another thread has raised it
  ErrorRecord* const record = records[device].load(std::memory_order_acquire);
  const std::string message = message_of(*record);
  *static_cast<volatile uint64_t*>(&record->launch) = 0;
  return message;
}

bool wait_for_stream(void* stream, const char** problem) {
  *problem = nullptr;
  if (is_capturing(stream)) return false;
  const RelaxedCapture relaxed;
  const cudaError_t error = cudaStreamSynchronize(static_cast<cudaStream_t>(stream));
  if (error != cudaSuccess) *problem = cudaGetErrorString(error);
  return true;
}

}  // namespace dtnn::cuda
