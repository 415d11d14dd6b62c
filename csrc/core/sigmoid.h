// SPDX-License-Identifier: MIT
// The logistic function in plain arithmetic: the same bits for vectors of any width and for single numbers.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/simd_level.h"
#include "core/wide.h"

namespace dtnn {

template <typename T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  using Bits = uint32_t;
  static constexpr int kMantissaBits = 23;
  static constexpr float kRounder = 0x1.8p23f;       // adding it rounds to an integer, which is in the low bits
  static constexpr float kLn2High = 0x1.62e4p-1f;    // few bits: n * kLn2High is exact
  static constexpr float kLn2Low = 0x1.7f7d1cp-20f;  // ln 2 - kLn2High
  static constexpr float kSmallest = -87.0f;         // exp is a normal number from here on
  static constexpr int kDegree = 7;
};

template <>
struct ExpConstants<double> {
  using Bits = uint64_t;
  static constexpr int kMantissaBits = 52;
  static constexpr double kRounder = 0x1.8p52;
  static constexpr double kLn2High = 0x1.62e42fefap-1;
  static constexpr double kLn2Low = 0x1.cf79abc9e3b39p-40;
  static constexpr double kSmallest = -708.0;
  static constexpr int kDegree = 13;
};

template <typename T>
constexpr T inverse_factorial(int k) {
  double factorial = 1;
  for (int m = 2; m <= k; ++m) factorial *= m;
  return static_cast<T>(1 / factorial);
}

// The unsigned integers of the size of V, a T or a Wide of them.
template <typename T, typename V>
struct BitsOf {
  using type = Wide<typename ExpConstants<T>::Bits, sizeof(V)>;
};
template <typename T>
struct BitsOf<T, T> {
  using type = typename ExpConstants<T>::Bits;
};

// x = exp(x) for x <= 0: x = n ln 2 + r, exp(r) by its series to a term below half a rounding error, and 2^n by its
// bits. 0 below kSmallest; NaN stays NaN.
template <typename T, typename V>
DTNN_ALWAYS_INLINE void exp_of_negative(V& x) {
  using C = ExpConstants<T>;
  using Bits = typename C::Bits;
  constexpr T log2_e = static_cast<T>(1.44269504088896340736);
  constexpr Bits exponent_of_one = (Bits{1} << (8 * sizeof(T) - 2 - C::kMantissaBits)) - 1;
  const V rounded = x * log2_e + C::kRounder;
  const V n = rounded - C::kRounder;
  const V r = (x - n * C::kLn2High) - n * C::kLn2Low;
  V series = r * inverse_factorial<T>(C::kDegree) + inverse_factorial<T>(C::kDegree - 1);
#pragma GCC unroll 16
  for (int k = C::kDegree - 2; k >= 0; --k) series = series * r + inverse_factorial<T>(k);
  typename BitsOf<T, V>::type bits;
  std::memcpy(&bits, &rounded, sizeof(bits));
  bits = (bits + exponent_of_one) << C::kMantissaBits;
  V power;
  std::memcpy(&power, &bits, sizeof(power));
  const V zero = {};
  const V result = series * power;
  x = x < C::kSmallest ? zero : result;
}

// scale = 1 / (1 + exp(-x)), without overflow; V is T or a Wide of them. Where x is below kSmallest it is 0; the true
// value is under 2e-38 there (1e-307 in float64).
template <typename T, typename V>
DTNN_ALWAYS_INLINE void sigmoid(const V& x, V& scale) {
  const V one = V{} + T(1);
  V e = x >= T(0) ? -x : x;
  exp_of_negative<T>(e);
  scale = (x >= T(0) ? one : e) / (one + e);
}

}  // namespace dtnn
