// SPDX-License-Identifier: MIT
// Fibers: functions that can be suspended in the middle and resumed. Known to AddressSanitizer.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) || !defined(__ELF__)
#define CUDA_EMULATION_UCONTEXT
#endif
#ifdef CUDA_EMULATION_UCONTEXT
#include <ucontext.h>
#endif

namespace cuda_emulation {

struct Fiber {
  void* stack = nullptr;  // lowest address
  size_t stack_bytes = 0;
#ifdef CUDA_EMULATION_UCONTEXT
  ucontext_t context;
#else
  void* stack_pointer = nullptr;
#endif
  void* sanitizer_stack = nullptr;
};

// Makes `fiber` start with `entry` when it is resumed for the first time. `entry` must end with finish().
void prepare(Fiber& fiber, void (*entry)());
// Called by the scheduler: runs the fiber until it calls suspend() or finish().
void resume(Fiber& fiber);
// Called by the fiber: back to the scheduler, to go on here at the next resume().
void suspend();
// Called by the fiber: back to the scheduler for good.
void finish();
// Stack number `number` (below 1024) of those that are kept for the life of the process. Fibers that were dropped in
// the middle leave marks of AddressSanitizer on their stacks; clean_stacks removes them.
void give_stack(Fiber& fiber, size_t number);
void clean_stacks();

}  // namespace cuda_emulation
