// SPDX-License-Identifier: MIT
// One portable binary, the machine's vector units at run time. DTNN_SIMD_VERSIONS compiles a function for the baseline,
// AVX2 and AVX-512 and calls the best one that the processor has. Not target_clones: the loader resolves those before
// main, so no test could ask for a lower level, and other compilers than GCC do not have them everywhere.
#pragma once

namespace dtnn {

enum class SimdLevel { kBaseline, kAvx2, kAvx512 };

// The best level of this processor; the environment variable DTNN_SIMD (baseline, avx2, avx512), read once, caps it.
SimdLevel simd_level();

// How matrix products with factors in bfloat16 are computed (core/bf16_matmul.h): not at all, which leaves them in
// float32, by plain code with the bits of the instruction, or by the instruction of AVX-512.
enum class Bf16Products { kNone, kEmulated, kNative };

// By the instruction where the processor and simd_level() have it, else not at all. The environment variable DTNN_BF16
// (off, emulated), read once, is for tests.
Bf16Products bf16_products();

}  // namespace dtnn

#define DTNN_ALWAYS_INLINE inline __attribute__((always_inline))

// Defines `result name parameters`, which returns `body arguments` compiled for the best level; `body` must be an
// always-inline template. The second form takes a body for each level, from AVX-512 down, where they differ.
#if defined(__x86_64__) && defined(__GNUC__)
#define DTNN_HAVE_SIMD_LEVELS 1
#define DTNN_FOR_AVX512 __attribute__((target("arch=x86-64-v4")))
#define DTNN_FOR_AVX2 __attribute__((target("arch=x86-64-v3")))
#define DTNN_SIMD_VERSIONS_OF(result, name, body512, body256, body128, parameters, arguments) \
  DTNN_FOR_AVX512 result name##_avx512 parameters { return body512 arguments; }               \
  DTNN_FOR_AVX2 result name##_avx2 parameters { return body256 arguments; }                   \
  result name##_baseline parameters { return body128 arguments; }                             \
  result name parameters {                                                                    \
    switch (::dtnn::simd_level()) {                                                           \
      case ::dtnn::SimdLevel::kAvx512:                                                        \
        return name##_avx512 arguments;                                                       \
      case ::dtnn::SimdLevel::kAvx2:                                                          \
        return name##_avx2 arguments;                                                         \
      default:                                                                                \
        return name##_baseline arguments;                                                     \
    }                                                                                         \
  }
#else
#define DTNN_SIMD_VERSIONS_OF(result, name, body512, body256, body128, parameters, arguments) \
  result name parameters { return body128 arguments; }
#endif
#define DTNN_SIMD_VERSIONS(result, name, body, parameters, arguments) \
  DTNN_SIMD_VERSIONS_OF(result, name, body, body, body, parameters, arguments)
