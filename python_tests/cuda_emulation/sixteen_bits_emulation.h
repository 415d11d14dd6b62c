// SPDX-License-Identifier: MIT
// Conversions of 16-bit numbers as PTX's cvt.rn does them: ties to even, one NaN.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda_emulation.h"

namespace cuda_emulation {

inline unsigned to_bfloat16(float value) {
  const unsigned bits = __float_as_uint(value);
  if (std::isnan(value)) return 0x7fffu;
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

inline uint16_t to_float16(float value) {
  const unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u;
  unsigned magnitude = bits & 0x7fffffffu;
  if (std::isnan(value)) return 0x7fffu;
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // from 65520 on infinite
  if (magnitude < 0x38800000u) {
    // Below 2^-14 numbers are multiples of 2^-24, the last bit of a float in 0.5..1.
    return static_cast<uint16_t>(sign | (__float_as_uint(std::fabs(value) + 0.5f) - __float_as_uint(0.5f)));
  }
  magnitude += 0xfffu + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (magnitude - 0x38000000u) >> 13);
}

inline float from_float16(uint16_t bits) {
  const unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, mantissa = bits & 0x3ffu;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) return std::copysign(static_cast<float>(mantissa) / 16777216.0f, __uint_as_float(sign | 1));
  return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

}  // namespace cuda_emulation
