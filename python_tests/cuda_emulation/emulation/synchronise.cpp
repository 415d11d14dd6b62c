// SPDX-License-Identifier: MIT
// Barriers of a block and meetings of a warp.
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "block.h"

namespace cuda_emulation {
namespace {

const char* name_of(Barrier kind) {
  switch (kind) {
    case Barrier::kCount:
      return "__syncthreads_count";
    case Barrier::kAnd:
      return "__syncthreads_and";
    case Barrier::kOr:
      return "__syncthreads_or";
    default:
      return "__syncthreads";
  }
}

void open_barrier() {
  BarrierState& barrier = running->barrier;
  switch (barrier.kind) {
    case Barrier::kCount:
      barrier.result = static_cast<int>(barrier.positive);
      break;
    case Barrier::kAnd:
      barrier.result = barrier.positive == barrier.arrived;
      break;
    default:
      barrier.result = barrier.positive > 0;
  }
  barrier.arrived = barrier.positive = 0;
  barrier.first = nullptr;
  for (Thread& thread : running->threads) wake(thread);  // all threads stand here, so none waits for anything else
}

// On a GPU, lanes that have returned are not waited for.
void open_if_complete(Warp& warp, size_t position) {
  Meeting* const meeting = warp.open[position];
  if (meeting->arrived == 0 || (meeting->mask & warp.alive) != (meeting->arrived & warp.alive)) return;
  warp.open.erase(warp.open.begin() + static_cast<std::ptrdiff_t>(position));
  meeting->readers = static_cast<unsigned>(__builtin_popcount(meeting->arrived));
  const size_t first = static_cast<size_t>(&warp - running->warps.data()) * 32;
  for (unsigned i = 0; i < 32; ++i) {
    if (meeting->arrived >> i & 1) wake(running->threads[first + i]);
  }
}

Meeting* new_meeting() {
  if (running->unused.empty()) return running->meetings.emplace_back(std::make_unique<Meeting>()).get();
  Meeting* const meeting = running->unused.back();
  running->unused.pop_back();
  return meeting;
}

// Ends the launch: the scheduler sees the error and never resumes this fiber, hence no destructor runs after this. The
// caller hands over the only string there is.
void abandon(std::string&& error) {
  running->error.swap(error);
  suspend();
}

std::string divergent(const Thread& one, const Thread& other) {
  return "divergent barrier: " + describe(one) + ", but " + describe(other);
}

Warp& current_warp() { return running->warps[running->current->linear / 32]; }

}  // namespace

std::string place(Site site) {
  const char* const slash = std::strrchr(site.file, '/');
  return std::string(slash == nullptr ? site.file : slash + 1) + ":" + std::to_string(site.line);
}

std::string describe(const Thread& thread) {
  std::string text = "thread (" + std::to_string(thread.index.x) + ", " + std::to_string(thread.index.y) + ", " +
                     std::to_string(thread.index.z) + ")";
  if (thread.done) return text + " has returned";
  if (thread.waits_for == nullptr) return text;
  text += " waits at " + std::string(thread.waits_for) + " (" + place(thread.site);
  if (thread.mask != 0) {
    char mask[24];
    std::snprintf(mask, sizeof(mask), ", mask 0x%08x", thread.mask);
    text += mask;
  }
  return text + ")";
}

void fail(const char* format, ...) {
  char message[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof(message), format, arguments);
  va_end(arguments);
  abandon(message);
}

void wait(const char* what, unsigned mask, Site site) {
  Thread& self = *running->current;
  self.waits_for = what;
  self.site = site;
  self.mask = mask;
  suspend();
}

int block_barrier(Barrier kind, int predicate, Site site) {
  BarrierState& barrier = running->barrier;
  Thread& self = *running->current;
  ++running->progress;
  if (running->last_exit != nullptr) {
    self.waits_for = name_of(kind);
    self.site = site;
    self.mask = 0;
    abandon(divergent(self, *running->last_exit));
  }
  if (barrier.first == nullptr) {
    barrier.first = &self;
    barrier.kind = kind;
  } else {
    const Site& other = barrier.first->site;
    if (barrier.kind != kind || other.line != site.line || std::strcmp(other.file, site.file) != 0) {
      self.waits_for = name_of(kind);
      self.site = site;
      self.mask = 0;
      abandon(divergent(*barrier.first, self));
    }
  }
  ++barrier.arrived;
  barrier.positive += predicate != 0;
  if (barrier.arrived == running->alive) {
    open_barrier();
  } else {
    wait(name_of(kind), 0, site);
  }
  return barrier.result;
}

Meeting* meet(const char* what, unsigned mask, const void* value, size_t bytes, Site site) {
  Warp& warp = current_warp();
  const unsigned self = lane();
  ++running->progress;
  if (!(mask >> self & 1))
    fail("lane %u is not in the mask 0x%08x of its own %s (line %d)", self, mask, what, site.line);
  size_t position = 0;
  while (position < warp.open.size() &&
         (warp.open[position]->mask != mask || std::strcmp(warp.open[position]->what, what) != 0)) {
    ++position;
  }
  if (position == warp.open.size()) {
    Meeting* const fresh = new_meeting();
    fresh->what = what;
    fresh->mask = mask;
    fresh->arrived = 0;
    warp.open.push_back(fresh);
  }
  Meeting* const meeting = warp.open[position];
  std::memcpy(meeting->value[self], value, bytes);
  meeting->arrived |= 1u << self;
  // Before the check: it wakes every lane that has arrived, this one included.
  Thread& thread = *running->current;
  thread.waits_for = what;
  thread.site = site;
  thread.mask = mask;
  open_if_complete(warp, position);
  if (thread.waits_for != nullptr) suspend();
  return meeting;
}

void leave(Meeting* meeting) {
  if (--meeting->readers == 0) running->unused.push_back(meeting);
}

void thread_exits() {
  Thread& self = *running->current;
  self.done = true;
  running->last_exit = &self;
  --running->alive;
  ++running->progress;
  if (running->barrier.arrived > 0) {
    abandon(divergent(*running->barrier.first, self));
  }
  Warp& warp = current_warp();
  warp.alive &= ~(1u << lane());
  for (size_t i = warp.open.size(); i-- > 0;) open_if_complete(warp, i);
}

unsigned lane() { return running->current->linear % 32; }

unsigned active_mask() { return current_warp().alive; }

void spin() { suspend(); }

void note_progress() { ++running->progress; }

}  // namespace cuda_emulation
