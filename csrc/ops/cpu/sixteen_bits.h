// SPDX-License-Identifier: MIT
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <type_traits>

#include "check.h"
#include "core/simd_level.h"

namespace dtnn {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

template <typename T>
constexpr bool kHas16Bits = std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>;

// The type in which values of type T are added: float32 for 16 bits, whose sums are rounded once, at the end.
template <typename T>
using SumOf = std::conditional_t<kHas16Bits<T>, float, T>;

template <typename T>
DTNN_ALWAYS_INLINE SumOf<T> widen(T value) {
  return static_cast<SumOf<T>>(value);
}

// Rounds to the nearest number, ties to even.
template <typename T>
DTNN_ALWAYS_INLINE T narrow(SumOf<T> sum) {
  return static_cast<T>(sum);
}

// Calls run(T()) for the floating-point type T of a tensor.
template <typename Run>
auto dispatch_floating(ScalarType type, const Run& run) {
  switch (type) {
    case ScalarType::Half:
      return run(Half());
    case ScalarType::BFloat16:
      return run(BFloat16());
    case ScalarType::Double:
      return run(double());
    default:
      return run(float());
  }
}

}  // namespace dtnn
