// SPDX-License-Identifier: MIT
// Copies of 4, 8 or 16 bytes from device to shared memory that go on while the threads compute (cp.async, from sm_80
// on). A thread sees its own copies after wait_for_copies, the others' after the next __syncthreads.
#pragma once

#include "payload.h"

namespace dtnn::cuda {

// Copies one pack, or writes zeros without reading `from`.
template <typename T, int W>
__device__ __forceinline__ void copy_async(Pack<T, W>* to, const T* from, bool valid) {
  static_assert(sizeof(Pack<T, W>) == kPackBytes, "a copy moves 16 bytes");
#ifdef DTNN_EMULATE_CUDA
  cuda_emulation::start_copy(to, valid ? from : nullptr, kPackBytes);
#else
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const unsigned bytes = valid ? kPackBytes : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
#endif
}

// Copies one number or pack. A number of 16 bits, for which there is no such copy, is waited for.
template <typename Unit>
__device__ __forceinline__ void copy_unit_async(Unit* to, const Unit* from) {
  constexpr int bytes = sizeof(Unit);
  static_assert(bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16, "a copy moves 2, 4, 8 or 16 bytes");
  if constexpr (bytes == 2) {
    *to = *from;
    return;
  }
#ifdef DTNN_EMULATE_CUDA
  cuda_emulation::start_copy(to, from, bytes);
#else
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
  } else if constexpr (bytes > 2) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(from), "n"(bytes) : "memory");
  }
#endif
}

__device__ __forceinline__ void wait_for_copies() {
#ifdef DTNN_EMULATE_CUDA
  cuda_emulation::finish_copies();
#else
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace dtnn::cuda
