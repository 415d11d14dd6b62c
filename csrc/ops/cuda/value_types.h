// SPDX-License-Identifier: MIT
// Types of values besides float and double, for the host too; sixteen_bits.h has their conversions.
#pragma once

#include <cstdint>

namespace dtnn::cuda {

struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// The type in which values of type T are added.
template <typename T>
struct Widened {
  using Type = T;
};
template <>
struct Widened<Float16> {
  using Type = float;
};
template <>
struct Widened<BFloat16> {
  using Type = float;
};
template <typename T>
using SumOf = typename Widened<T>::Type;

}  // namespace dtnn::cuda
