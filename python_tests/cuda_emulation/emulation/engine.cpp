// SPDX-License-Identifier: MIT
#include "engine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <random>

#include "block.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace cuda_emulation {

Launch* running = nullptr;

namespace {

constexpr size_t kSharedWithoutOptIn = 48 * 1024;
constexpr unsigned kMaxThreads = 1024;

thread_local cudaError_t last_error = cudaSuccess;
thread_local std::string last_message;

cudaError_t report(cudaError_t error, const std::string& message) {
  last_error = error;
  last_message = "CUDA emulation: " + message;
  return error;
}

std::string text(const dim3& size) {
  return "(" + std::to_string(size.x) + ", " + std::to_string(size.y) + ", " + std::to_string(size.z) + ")";
}

// Bytes of shared memory that each kernel has opted in to.
std::map<const void*, size_t>& opted_in() {
  static std::map<const void*, size_t> kernels;
  return kernels;
}

std::mutex& one_launch() {
  static std::mutex mutex;
  return mutex;
}

// What the driver would refuse, empty when it would not.
std::string refuse(const void* kernel, const dim3& grid, const dim3& block, size_t shared_bytes) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || block.x > 1024 || block.y > 1024 || block.z > 64 || threads > kMaxThreads) {
    return "block " + text(block) + " is empty or above (1024, 1024, 64) or 1024 threads";
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 0xffff || grid.z > 0xffff) {
    return "grid " + text(grid) + " is empty or above (2147483647, 65535, 65535)";
  }
  const auto allowed = opted_in().find(kernel);
  const size_t limit =
      allowed == opted_in().end()
          ? kSharedWithoutOptIn
          : std::max(kSharedWithoutOptIn, std::min(allowed->second, cuda_emulation::settings().max_shared));
  if (shared_bytes > limit) {
    return std::to_string(shared_bytes) + " bytes of dynamic shared memory, the limit is " + std::to_string(limit) +
           " (cudaFuncSetAttribute raises it)";
  }
  return "";
}

void run_thread() {
  running->body(running->context);
  if (!running->current->copies.empty()) fail("it returns while asynchronous copies are under way");
  thread_exits();
  finish();
}

void start_block(const dim3& block) {
  Launch& launch = *running;
  launch.shared.poison();
  launch.barrier = BarrierState();
  launch.alive = static_cast<unsigned>(launch.threads.size());
  launch.last_exit = nullptr;
  for (Warp& warp : launch.warps) {
    warp.alive = 0;
    warp.open.clear();
  }
  for (unsigned i = 0; i < launch.alive; ++i) {
    Thread& thread = launch.threads[i];
    thread.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    thread.linear = i;
    thread.done = false;
    thread.waits_for = nullptr;
    thread.copies.clear();
    launch.warps[i / 32].alive |= 1u << (i % 32);
    prepare(thread.fiber, run_thread);
  }
}

std::string describe_waiting() {
  std::string report;
  int groups = 0;
  const Thread* previous = nullptr;
  for (const Thread& thread : running->threads) {
    if (thread.done) continue;
    const bool is_same = previous != nullptr && previous->waits_for == thread.waits_for &&
                         previous->mask == thread.mask && previous->site.line == thread.site.line;
    previous = &thread;
    if (is_same) continue;
    if (++groups > 6) return report + "; ...";
    report += (groups == 1 ? ": " : "; ") + describe(thread);
  }
  return report;
}

// Turns of the ready threads until all have returned.
void run_block(std::vector<unsigned>& turns, std::mt19937_64& random) {
  Launch& launch = *running;
  int idle_rounds = 0;
  while (launch.alive > 0) {
    if (settings().order == Order::kShuffle) std::shuffle(turns.begin(), turns.end(), random);
    const uint64_t before = launch.progress;
    bool ran = false;
    for (const unsigned i : turns) {
      Thread& thread = launch.threads[i];
      if (thread.done || thread.waits_for != nullptr) continue;
      ran = true;
      launch.current = &thread;
      threadIdx = thread.index;
      resume(thread.fiber);
      if (!launch.error.empty()) return;
    }
    // A round of nothing but failed atomicCAS means a lock that no thread releases. Two rounds, since a lock may be
    // taken in the middle of one.
    idle_rounds = launch.progress == before ? idle_rounds + 1 : 0;
    if (!ran || idle_rounds == 2) {
      launch.error = (ran ? "deadlock, threads spin on an atomic" : "deadlock") + describe_waiting();
      return;
    }
  }
  if (!launch.shared.intact()) launch.error = "a write outside of a shared array";
}

dim3 block_index(uint64_t linear, const dim3& grid) {
  return dim3(static_cast<unsigned>(linear % grid.x), static_cast<unsigned>(linear / grid.x % grid.y),
              static_cast<unsigned>(linear / grid.x / grid.y));
}

void run_blocks(const dim3& grid, const dim3& block) {
  std::mt19937_64 random(settings().seed);
  std::vector<unsigned> turns(running->threads.size());
  std::iota(turns.begin(), turns.end(), 0u);
  if (settings().order == Order::kReverse) std::reverse(turns.begin(), turns.end());
  const uint64_t num_blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t i = 0; i < num_blocks; ++i) {
    uint64_t linear = i;
    if (settings().order == Order::kReverse) linear = num_blocks - 1 - i;
    // A rotation: enough to break what relies on the order of blocks, and needs no list of them.
    if (settings().order == Order::kShuffle) linear = (i + settings().seed * 0x9e3779b9u) % num_blocks;
    const dim3 index = block_index(linear, grid);
    blockIdx = {index.x, index.y, index.z};
    start_block(block);
    run_block(turns, random);
    if (!running->error.empty()) {
      running->error = "block " + text(index) + ": " + running->error;
      return;
    }
  }
}

}  // namespace

Settings& settings() {
  static Settings all;
  return all;
}

bool set_order(const char* order) {
  if (std::strcmp(order, "forward") == 0) {
    settings().order = Order::kForward;
  } else if (std::strcmp(order, "reverse") == 0) {
    settings().order = Order::kReverse;
  } else if (std::strncmp(order, "shuffle:", 8) == 0) {
    settings().order = Order::kShuffle;
    settings().seed = std::strtoull(order + 8, nullptr, 10);
  } else {
    return false;
  }
  return true;
}

void* static_shared(const void* tag, size_t bytes, size_t alignment) {
  void* const data = running->shared.find(tag, bytes);
  if (alignment > 16) fail("a shared array of alignment %zu, the emulation has 16", alignment);
  if (running->shared.static_bytes() > kSharedWithoutOptIn) {
    fail("%zu bytes of static shared memory, the limit is %zu", running->shared.static_bytes(), kSharedWithoutOptIn);
  }
  return data;
}

void* dynamic_shared() { return running->shared.dynamic(); }

void start_copy(void* to, const void* from, size_t bytes) {
  const auto misaligned = [bytes](const void* at) { return reinterpret_cast<uintptr_t>(at) % bytes != 0; };
  if (misaligned(to) || misaligned(from)) {
    fail("an asynchronous copy at an address that is no multiple of %zu", bytes);
  }
  std::memset(to, 0xff, bytes);
  running->current->copies.push_back({to, from, bytes});
}

void finish_copies() {
  for (const Copy& copy : running->current->copies) {
    if (copy.from == nullptr) {
      std::memset(copy.to, 0, copy.bytes);
    } else {
      std::memcpy(copy.to, copy.from, copy.bytes);
    }
  }
  running->current->copies.clear();
}

cudaError_t allow_shared(const void* kernel, int bytes) {
  const std::lock_guard<std::mutex> lock(one_launch());
  if (bytes < 0 || static_cast<size_t>(bytes) > settings().max_shared) {
    return report(cudaErrorInvalidValue, "cudaFuncSetAttribute: " + std::to_string(bytes) +
                                             " bytes of shared memory, a block can have " +
                                             std::to_string(settings().max_shared));
  }
  opted_in()[kernel] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

void run_grid(const char* name, Site site, const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
              void (*body)(void*), void* context) {
  const std::lock_guard<std::mutex> lock(one_launch());
  const std::string title = std::string(name) + " (" + place(site) + ")";
  const std::string refusal = refuse(kernel, grid, block, shared_bytes);
  if (!refusal.empty()) {
    report(cudaErrorInvalidConfiguration, title + ": " + refusal);
    return;
  }
  Launch launch(shared_bytes);
  launch.body = body;
  launch.context = context;
  launch.threads.resize(block.x * block.y * block.z);
  launch.warps.resize((launch.threads.size() + 31) / 32);
  for (size_t i = 0; i < launch.threads.size(); ++i) give_stack(launch.threads[i].fiber, i);
  blockDim = block;
  gridDim = grid;
  running = &launch;
  run_blocks(grid, block);
  running = nullptr;
  if (!launch.error.empty()) {
    clean_stacks();
    report(cudaErrorLaunchFailure, title + ", " + launch.error);
  }
}

}  // namespace cuda_emulation

cudaError_t cudaPeekAtLastError() { return cuda_emulation::last_error; }

cudaError_t cudaGetLastError() {
  const cudaError_t error = cuda_emulation::last_error;
  cuda_emulation::last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : cuda_emulation::last_message.c_str();
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t) {
  if (bytes > 0) std::memset(pointer, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, cudaStream_t) {
  if (bytes > 0) std::memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  static thread_local cudaStreamCaptureMode current = cudaStreamCaptureModeGlobal;
  std::swap(current, *mode);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = static_cast<int>(cuda_emulation::settings().max_shared);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  *pointer = std::malloc(bytes);
  return *pointer == nullptr ? cuda_emulation::report(cudaErrorInvalidValue, "no memory") : cudaSuccess;
}
