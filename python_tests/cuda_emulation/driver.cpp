// SPDX-License-Identifier: MIT
// The settings of the emulation, for Python. The ops are in ops/.
#include "emulation/engine.h"

extern "C" const char* configure(const char* order, int64_t max_grid, int64_t max_shared) {
  if (!cuda_emulation::set_order(order)) return "configure: expected order forward, reverse or shuffle:SEED";
  if (max_grid < 1 || max_grid > 0x7fffffff) return "configure: expected max_grid in 1..2147483647";
  if (max_shared < 0) return "configure: expected max_shared of 0 or more";
  cuda_emulation::settings().max_grid = max_grid;
  cuda_emulation::settings().max_shared = static_cast<size_t>(max_shared);
  return nullptr;
}
