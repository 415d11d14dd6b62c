// SPDX-License-Identifier: MIT
#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#define CUDA_EMULATION_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUDA_EMULATION_ASAN
#endif
#endif
#ifdef CUDA_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_emulation {
namespace {

constexpr size_t kMaxFibers = 1024;
#ifdef CUDA_EMULATION_ASAN
constexpr size_t kStackBytes = 256 * 1024;  // its red zones make frames several times larger
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif

Fiber scheduler;  // its stack is the caller's, known after the first switch under AddressSanitizer
Fiber* current = nullptr;
void (*entry_of_all)() = nullptr;

void leave_for([[maybe_unused]] Fiber& to, [[maybe_unused]] void** sanitizer_stack) {
#ifdef CUDA_EMULATION_ASAN
  __sanitizer_start_switch_fiber(sanitizer_stack, to.stack, to.stack_bytes);
#endif
}

void arrive([[maybe_unused]] void* sanitizer_stack) {
#ifdef CUDA_EMULATION_ASAN
  const void* from = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(sanitizer_stack, &from, &bytes);
  if (current != nullptr) {
    scheduler.stack = const_cast<void*>(from);
    scheduler.stack_bytes = bytes;
  }
#endif
}

void first_call() {
  arrive(nullptr);
  entry_of_all();
}

#ifdef CUDA_EMULATION_UCONTEXT

void switch_context(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

#else

// Saves the registers that a call must keep, on the stack it leaves, and takes them from the stack it enters. Ten times
// as fast as swapcontext, which makes system calls for the signal mask. It ends with a jump: the processor predicts
// that a `ret` goes to the latest caller, which here it never does.
extern "C" __attribute__((visibility("hidden"))) void cuda_emulation_switch(void** save, void* load);
asm(R"(
.pushsection .text
.p2align 4
.hidden cuda_emulation_switch
.globl cuda_emulation_switch
.type cuda_emulation_switch, @function
cuda_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size cuda_emulation_switch, .-cuda_emulation_switch
.popsection
)");

void switch_context(Fiber& from, Fiber& to) { cuda_emulation_switch(&from.stack_pointer, to.stack_pointer); }

#endif

}  // namespace

void prepare(Fiber& fiber, void (*entry)()) {
  entry_of_all = entry;
#ifdef CUDA_EMULATION_UCONTEXT
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = fiber.stack_bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, first_call, 0);
#else
  // What cuda_emulation_switch pops: six registers, then the address to go to; and above it the place of first_call's
  // own return address, which makes the stack aligned as after a call.
  void** top = reinterpret_cast<void**>(static_cast<char*>(fiber.stack) + fiber.stack_bytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&first_call);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
#endif
}

void resume(Fiber& fiber) {
  current = &fiber;
  leave_for(fiber, &scheduler.sanitizer_stack);
  switch_context(scheduler, fiber);
  current = nullptr;
  arrive(scheduler.sanitizer_stack);
}

void suspend() {
  Fiber& self = *current;
  leave_for(scheduler, &self.sanitizer_stack);
  switch_context(self, scheduler);
  arrive(self.sanitizer_stack);
}

void finish() {
  leave_for(scheduler, nullptr);
  switch_context(*current, scheduler);
}

namespace {

char* stacks() {
  static char* const memory = [] {
    void* const mapped = mmap(nullptr, kMaxFibers * kStackBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
      std::perror("CUDA emulation: no memory for stacks");
      std::abort();
    }
    // An unreadable page below each stack: an overflow is a crash here and not a changed neighbor.
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    for (size_t i = 0; i < kMaxFibers; ++i) mprotect(static_cast<char*>(mapped) + i * kStackBytes, page, PROT_NONE);
    return static_cast<char*>(mapped);
  }();
  return memory;
}

}  // namespace

void give_stack(Fiber& fiber, size_t number) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  fiber.stack = stacks() + number * kStackBytes + page;
  fiber.stack_bytes = kStackBytes - page;
}

void clean_stacks() {
#ifdef CUDA_EMULATION_ASAN
  __asan_unpoison_memory_region(stacks(), kMaxFibers * kStackBytes);
#endif
}

}  // namespace cuda_emulation
