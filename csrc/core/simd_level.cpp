// SPDX-License-Identifier: MIT
#include "core/simd_level.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace dtnn {
namespace {

SimdLevel processor_level() {
#ifdef DTNN_HAVE_SIMD_LEVELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return SimdLevel::kAvx512;
  if (__builtin_cpu_supports("x86-64-v3")) return SimdLevel::kAvx2;
#endif
  return SimdLevel::kBaseline;
}

SimdLevel cap() {
  const char* name = std::getenv("DTNN_SIMD");
  if (name != nullptr && std::strcmp(name, "baseline") == 0) return SimdLevel::kBaseline;
  if (name != nullptr && std::strcmp(name, "avx2") == 0) return SimdLevel::kAvx2;
  return SimdLevel::kAvx512;
}

}  // namespace

SimdLevel simd_level() {
  static const SimdLevel level = std::min(processor_level(), cap());
  return level;
}

}  // namespace dtnn
