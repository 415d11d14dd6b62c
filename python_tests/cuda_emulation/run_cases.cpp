// SPDX-License-Identifier: MIT
// run_cases ORDER MAX_GRID NAME...: runs these cases, and exits with 1 when a case fails or is unknown.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cases.h"
#include "emulation/engine.h"

int main(int argc, char** argv) {
  if (argc < 4 || !cuda_emulation::set_order(argv[1])) {
    std::fprintf(stderr, "usage: run_cases forward|reverse|shuffle:SEED MAX_GRID NAME...\n");
    return 2;
  }
  cuda_emulation::settings().max_grid = std::atoll(argv[2]);
  int status = 0;
  for (int i = 3; i < argc; ++i) {
    std::string error = "unknown case";
    for (const dtnn::cases::Case& test_case : dtnn::cases::all_cases()) {
      if (std::strcmp(test_case.name, argv[i]) == 0) error = test_case.run();
    }
    std::printf("%s: %s\n", argv[i], error.empty() ? "passed" : error.c_str());
    if (!error.empty()) status = 1;
  }
  return status;
}
