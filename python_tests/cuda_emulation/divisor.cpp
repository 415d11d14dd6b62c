// SPDX-License-Identifier: MIT
#include "payload.h"

extern "C" const char* divisor(const int64_t* numbers, int64_t count, int64_t divisor, int64_t* quotients) {
  const dtnn::cuda::Divisor by(static_cast<unsigned>(divisor));
  for (int64_t i = 0; i < count; ++i) quotients[i] = by.quotient(static_cast<unsigned>(numbers[i]));
  return nullptr;
}
