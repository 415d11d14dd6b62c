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

Bf16Products processor_bf16_products() {
  const char* name = std::getenv("DTNN_BF16");
  if (name != nullptr && std::strcmp(name, "emulated") == 0) return Bf16Products::kEmulated;
  if (name != nullptr && std::strcmp(name, "off") == 0) return Bf16Products::kNone;
#ifdef DTNN_HAVE_SIMD_LEVELS
  if (simd_level() == SimdLevel::kAvx512 && __builtin_cpu_supports("avx512bf16")) return Bf16Products::kNative;
#endif
  return Bf16Products::kNone;
}

}  // namespace

SimdLevel simd_level() {
  static const SimdLevel level = std::min(processor_level(), cap());
  return level;
}

Bf16Products bf16_products() {
  static const Bf16Products products = processor_bf16_products();
  return products;
}

}  // namespace dtnn
