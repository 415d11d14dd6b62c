// SPDX-License-Identifier: MIT
#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace dtnn {

Parallel serial() {
  return {1, [](int num_workers, const std::function<void(int)>& work) {
            for (int worker = 0; worker < num_workers; ++worker) work(worker);
          }};
}

Parallel with_std_threads(int num_threads) {
  if (num_threads < 1) num_threads = std::max(1u, std::thread::hardware_concurrency());
  return {num_threads, [](int num_workers, const std::function<void(int)>& work) {
            std::vector<std::thread> threads;
            int started = 1;
            try {
              for (; started < num_workers; ++started) threads.emplace_back(work, started);
            } catch (const std::system_error&) {
              // No more threads to be had (a container's limit): the calling thread does the rest below.
            }
            work(0);
            for (int worker = started; worker < num_workers; ++worker) work(worker);
            for (std::thread& thread : threads) thread.join();
          }};
}

void for_each_task(const Parallel& parallel, int64_t num_tasks, const std::function<void(int64_t)>& task) {
  const int num_workers = static_cast<int>(std::min<int64_t>(parallel.num_threads, num_tasks));
  if (num_workers <= 1) {
    for (int64_t index = 0; index < num_tasks; ++index) task(index);
    return;
  }
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  int64_t failed = num_tasks;
  parallel.run(num_workers, [&](int) {
    // Tasks are drawn in order, so every task below a failing one has been drawn and will be finished.
    for (int64_t index; (index = next.fetch_add(1)) < num_tasks;) {
      try {
        task(index);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (index < failed) {
          failed = index;
          error = std::current_exception();
        }
        next.store(num_tasks);
      }
    }
  });
  if (error) std::rethrow_exception(error);
}

}  // namespace dtnn
