// SPDX-License-Identifier: MIT
// The settings of the emulation, for Python. The ops are in ops/.
#include "emulation/engine.h"

extern "C" const char* configure(const char* order, int64_t max_grid) {
  if (!cuda_emulation::set_order(order)) return "configure: expected order forward, reverse or shuffle:SEED";
  if (max_grid < 1 || max_grid > 0x7fffffff) return "configure: expected max_grid in 1..2147483647";
  cuda_emulation::settings().max_grid = max_grid;
  return nullptr;
}
