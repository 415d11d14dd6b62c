// SPDX-License-Identifier: MIT
// The state of the launch that runs: its threads, warps and barrier. Only engine.cpp and synchronise.cpp see it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "fiber.h"
#include "shared_memory.h"

namespace cuda_emulation {

// An asynchronous copy that has been started; `from` null is zeros.
struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Thread {
  Fiber fiber;
  std::vector<Copy> copies;
  uint3 index;
  unsigned linear;
  bool done;
  // What it waits for; nullptr when it can run.
  const char* waits_for;
  Site site;
  unsigned mask;
};

struct Warp {
  unsigned alive = 0;
  std::vector<Meeting*> open;  // meetings for which lanes are still missing
};

struct BarrierState {
  unsigned arrived = 0;
  unsigned positive = 0;
  int result = 0;
  Barrier kind = Barrier::kPlain;
  Thread* first = nullptr;
};

struct Launch {
  explicit Launch(size_t shared_bytes) : shared(shared_bytes) {}
  void (*body)(void*) = nullptr;
  void* context = nullptr;
  SharedMemory shared;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  BarrierState barrier;
  unsigned alive = 0;
  Thread* last_exit = nullptr;
  Thread* current = nullptr;
  uint64_t progress = 0;
  std::string error;
  std::vector<std::unique_ptr<Meeting>> meetings;  // owns all
  std::vector<Meeting*> unused;
};

// The launch that runs, nullptr between launches.
extern Launch* running;

// Lets the current thread wait until wake().
void wait(const char* what, unsigned mask, Site site);
inline void wake(Thread& thread) { thread.waits_for = nullptr; }
// The current thread has returned from the kernel: others may have waited only for it.
void thread_exits();
std::string describe(const Thread& thread);

}  // namespace cuda_emulation
