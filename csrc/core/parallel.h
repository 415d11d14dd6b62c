// SPDX-License-Identifier: MIT
// Threads for torch-free code: the caller brings the pool, `for_each_task` brings order into errors.
#pragma once

#include <cstdint>
#include <functional>

namespace dtnn {

// Where threads come from: torch's pool in the torch ops, std::thread in the NumPy module.
struct Parallel {
  int num_threads = 1;
  // Calls work(0), ..., work(num_workers - 1), each once, side by side where it can.
  std::function<void(int num_workers, const std::function<void(int)>& work)> run;
};

// Everything on the calling thread.
Parallel serial();

// New threads, for callers without a pool; num_threads < 1 means all processors.
Parallel with_std_threads(int num_threads);

// Runs task(0), ..., task(num_tasks - 1). Workers draw the next task when they are free, so uneven tasks balance;
// results do not depend on who draws what as long as every task writes to its own place. When tasks throw, the
// exception of the lowest failing task is thrown again here, for any number of threads.
void for_each_task(const Parallel& parallel, int64_t num_tasks, const std::function<void(int64_t)>& task);

}  // namespace dtnn
