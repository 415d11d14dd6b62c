// SPDX-License-Identifier: MIT
// Runs a grid: blocks one by one, a fiber per thread, a scheduler that sees every synchronisation and reports what
// would hang or be undefined on a GPU. Errors end the launch (its fibers are dropped) and come back through
// cudaGetLastError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "types.h"

namespace cuda_emulation {

// Where in the source a synchronisation stands.
struct Site {
  const char* file;
  int line;
};
std::string place(Site site);  // "file.cu:12"

// The default argument of every synchronising function: the place of the outermost call.
constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return Site{file, line}; }

// The order in which ready threads, and blocks, take turns. A result that depends on it shows a missing
// synchronisation.
enum class Order { kForward, kReverse, kShuffle };

struct Settings {
  Order order = Order::kForward;
  uint64_t seed = 0;               // of kShuffle
  int64_t max_grid = 0x7fffffff;   // what dtnn::cuda::grid_size allows
  size_t max_shared = 163 * 1024;  // bytes a block may opt in to: the smallest of the GPUs we compile for (sm_80)
};
Settings& settings();
inline int64_t max_grid() { return settings().max_grid; }

// Reads "forward", "reverse" or "shuffle:SEED"; false when it is none of these.
bool set_order(const char* text);

void* static_shared(const void* tag, size_t bytes, size_t alignment);
void* dynamic_shared();

// Ends the launch with a message that names kernel, block and thread. Does not return.
void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

enum class Barrier { kPlain, kCount, kAnd, kOr };
int block_barrier(Barrier kind, int predicate, Site site);

// One meeting of the lanes of a mask: each brings a value, and all can read all of them.
struct Meeting {
  const char* what;
  unsigned mask;
  unsigned arrived;  // lanes that brought a value
  unsigned readers;  // lanes that have not left yet
  alignas(16) unsigned char value[32][16];
};
Meeting* meet(const char* what, unsigned mask, const void* value, size_t bytes, Site site);
void leave(Meeting* meeting);

// Asynchronous copies of 4, 8 or 16 bytes to shared memory, from nullptr of zeros. Until the thread waits for its
// copies, what is read there is NaN: neither the old values nor the new ones can be relied on.
void start_copy(void* to, const void* from, size_t bytes);
void finish_copies();

unsigned lane();
unsigned active_mask();
// For atomics: a thread that found a lock taken lets the others run; one that changed memory says so.
void spin();
void note_progress();

void run_grid(const char* name, Site site, const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
              void (*body)(void*), void* context);
cudaError_t allow_shared(const void* kernel, int bytes);

template <typename... Parameters, typename... Args>
void launch(const char* name, Site site, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            Args... args) {
  auto call = [=] { kernel(args...); };
  run_grid(
      name, site, reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
      [](void* context) { (*static_cast<decltype(call)*>(context))(); }, &call);
}

}  // namespace cuda_emulation

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int bytes) {
  return cuda_emulation::allow_shared(reinterpret_cast<const void*>(kernel), bytes);
}
