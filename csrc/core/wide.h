// SPDX-License-Identifier: MIT
// Vectors of numbers with arithmetic, for loops that the compiler does not turn into vectors by itself: 64, 32 or 16
// bytes as the level has them. Never passed by value between functions, where the ABI would depend on the level.
#pragma once

#include <cstring>

#include "core/simd_level.h"

namespace dtnn {

template <typename T, int bytes>
struct WideOf {
  typedef T type __attribute__((vector_size(bytes)));
};
template <typename T, int bytes>
using Wide = typename WideOf<T, bytes>::type;

// The numbers of V, a Wide or a single number.
template <typename V, typename T>
constexpr int lanes_in = sizeof(V) / sizeof(T);

template <typename V, typename T>
DTNN_ALWAYS_INLINE void load(V& value, const T* from) {
  std::memcpy(&value, from, sizeof(V));
}
template <typename V, typename T>
DTNN_ALWAYS_INLINE void store(T* to, const V& value) {
  std::memcpy(to, &value, sizeof(V));
}

}  // namespace dtnn
