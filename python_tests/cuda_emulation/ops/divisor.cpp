// SPDX-License-Identifier: MIT
#include "cases.h"
#include "payload.h"

extern "C" const char* divisor(const int64_t* numbers, int64_t count, int64_t divisor, int64_t* quotients) {
  const dtnn::cuda::Divisor by(static_cast<unsigned>(divisor));
  for (int64_t i = 0; i < count; ++i) quotients[i] = by.quotient(static_cast<unsigned>(numbers[i]));
  return nullptr;
}

DTNN_CASE(divisor) {
  const int64_t numbers[] = {0, 1, 2, 95, 96, 0x7ffffffe, 0x7fffffff};
  for (const int64_t by : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{96}, int64_t{0x7fffffff}}) {
    int64_t quotients[7];
    if (const char* const error = divisor(numbers, 7, by, quotients)) return error;
    for (int k = 0; k < 7; ++k) {
      if (quotients[k] != numbers[k] / by) return "wrong quotient by " + std::to_string(by);
    }
  }
  return "";
}
