// SPDX-License-Identifier: MIT
// The only header that a .cu file includes to reach CUDA: nvcc gets cuda_runtime.h, and a host compiler with
// -DDTNN_EMULATE_CUDA gets the emulation of python_tests/cuda_emulation. The few things that differ between the two are
// macros here. A kernel uses them instead of <<<...>>> and __shared__; everything else is plain CUDA.
//
//   DTNN_LAUNCH(kernel, grid, block, bytes, stream, args...)  kernel<<<grid, block, bytes, stream>>>(args...)
//   DTNN_SHARED_ARRAY(T, name, count)                         __shared__ T name[count]
//   DTNN_SHARED(T, name)                                      __shared__ T name
//   DTNN_DYNAMIC_SHARED(T, name)                              T* name: the launch's `bytes`, 16-byte aligned
//
// A kernel template with several arguments needs a pointer first, for its commas: auto* kernel = my_kernel<T, 4>;
// A two-dimensional shared array is an array of rows: using Row = float[33]; DTNN_SHARED_ARRAY(Row, tile, 32);
#pragma once

#include <atomic>
#include <cstdint>

#ifdef DTNN_EMULATE_CUDA

#include "cuda_emulation.h"

#define DTNN_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  (static_cast<void>(stream),                                       \
   ::cuda_emulation::launch(#kernel, ::cuda_emulation::here(), kernel, grid, block, shared_bytes, __VA_ARGS__))
// The tag's address is what makes two declarations, or two instances of a template, two different arrays.
#define DTNN_SHARED_ARRAY(T, name, count)  \
  static const char name##_shared_tag = 0; \
  T* const name = static_cast<T*>(::cuda_emulation::static_shared(&name##_shared_tag, sizeof(T) * (count), alignof(T)))
#define DTNN_SHARED(T, name)                   \
  DTNN_SHARED_ARRAY(T, name##_shared_cell, 1); \
  T& name = *name##_shared_cell
#define DTNN_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::cuda_emulation::dynamic_shared())

#else

#include <cuda_runtime.h>

#define DTNN_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#define DTNN_SHARED_ARRAY(T, name, count) __shared__ T name[count]
#define DTNN_SHARED(T, name) __shared__ T name
#define DTNN_DYNAMIC_SHARED(T, name)                              \
  extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(dynamic_shared)

#endif

namespace dtnn::cuda {

constexpr int kSharedBytesWithoutOptIn = 48 * 1024;

// The message of the last launch in this thread, nullptr when it went well.
inline const char* launch_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

constexpr int kKnownDevices = 64;  // whose settings are kept

// Bytes of shared memory that a block of the current device can have: 227 KiB on an H100, 163 KiB on an A100, 99 KiB on
// GPUs for graphics.
inline int max_shared_bytes() {
  int device = 0, bytes = kSharedBytesWithoutOptIn;
  cudaGetDevice(&device);
#ifndef DTNN_EMULATE_CUDA  // where tests change it
  static std::atomic<int> kept[kKnownDevices];
  if (device < kKnownDevices && kept[device] > 0) return kept[device];
#endif
  cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
#ifndef DTNN_EMULATE_CUDA
  if (device < kKnownDevices) kept[device] = bytes;
#endif
  return bytes;
}

// Before a launch of `kernel` with `bytes` of dynamic shared memory. Asks the driver once for each kernel and device,
// for all that there is: the limit is one for all threads that launch the kernel. An error shows at the launch.
template <auto* kernel>
void allow_shared_bytes(int bytes) {
  static std::atomic<int> allowed[kKnownDevices];
  if (bytes <= kSharedBytesWithoutOptIn) return;
  int device = 0;
  cudaGetDevice(&device);
  if (device < kKnownDevices && allowed[device] >= bytes) return;
  const int most = max_shared_bytes();
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most) != cudaSuccess) return;
  if (device < kKnownDevices) allowed[device] = most;
}

// Blocks to launch for `blocks` blocks of work: a grid has a limit, so kernels loop over their work with stride
// gridDim.x. The emulation can lower the limit to make that loop run more than once on small inputs.
inline unsigned grid_size(int64_t blocks) {
#ifdef DTNN_EMULATE_CUDA
  const int64_t limit = ::cuda_emulation::max_grid();
#else
  const int64_t limit = 0x7fffffff;
#endif
  return static_cast<unsigned>(blocks < limit ? blocks : limit);
}

}  // namespace dtnn::cuda
