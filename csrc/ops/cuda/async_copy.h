// SPDX-License-Identifier: MIT
// Copies of 16 bytes from device to shared memory that go on while the threads compute (cp.async, from sm_80 on). A
// thread sees its own copies after wait_for_copies, the others' after the next __syncthreads. The emulation copies at
// once.
#pragma once

#include "payload.h"

namespace dtnn::cuda {

// Copies one pack, or writes zeros without reading `from`.
template <typename T, int W>
__device__ __forceinline__ void copy_async(Pack<T, W>* to, const T* from, bool valid) {
  static_assert(sizeof(Pack<T, W>) == kPackBytes, "a copy moves 16 bytes");
#ifdef DTNN_EMULATE_CUDA
  *to = valid ? *reinterpret_cast<const Pack<T, W>*>(from) : Pack<T, W>{};
#else
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const unsigned bytes = valid ? kPackBytes : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
#endif
}

__device__ __forceinline__ void wait_for_copies() {
#ifndef DTNN_EMULATE_CUDA
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace dtnn::cuda
