// SPDX-License-Identifier: MIT
// Dual numbers: a value and its change along a direction. A formula evaluated with them gives its directional
// derivative too. A backward evaluated with them gives the second derivatives: with L = g . f(x), the gradient of
// g . (df/dx) v with respect to x is the change of dL/dx along v, because second derivatives commute.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/sigmoid.h"
#include "core/simd_level.h"

namespace dtnn {

template <typename T>
struct Dual {
  T value;
  T change;

  Dual() = default;
  // A constant. Implicit, so that formulas mix both kinds.
  DTNN_ALWAYS_INLINE Dual(T constant) : value(constant), change(0) {}
  DTNN_ALWAYS_INLINE Dual(T v, T c) : value(v), change(c) {}

  friend DTNN_ALWAYS_INLINE Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.change + b.change}; }
  friend DTNN_ALWAYS_INLINE Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.change - b.change}; }
  friend DTNN_ALWAYS_INLINE Dual operator*(Dual a, Dual b) {
    return {a.value * b.value, a.change * b.value + a.value * b.change};
  }
  // With a constant, whose zero the compiler would have to multiply with: 0 times infinity is no zero.
  friend DTNN_ALWAYS_INLINE Dual operator+(T a, Dual b) { return {a + b.value, b.change}; }
  friend DTNN_ALWAYS_INLINE Dual operator*(T a, Dual b) { return {a * b.value, a * b.change}; }
  friend DTNN_ALWAYS_INLINE Dual operator*(Dual a, T b) { return {a.value * b, a.change * b}; }
  friend DTNN_ALWAYS_INLINE Dual operator/(Dual a, Dual b) {
    const T quotient = a.value / b.value;
    return {quotient, (a.change - quotient * b.change) / b.value};
  }
  friend DTNN_ALWAYS_INLINE Dual operator-(Dual a) { return {-a.value, -a.change}; }
  DTNN_ALWAYS_INLINE Dual& operator+=(Dual b) { return *this = *this + b; }
};

template <typename T>
DTNN_ALWAYS_INLINE Dual<T> sqrt(Dual<T> x) {
  const T root = std::sqrt(x.value);
  return {root, x.change / (T(2) * root)};
}

// Called as sigmoid<Dual<T>>, as for other numbers.
template <typename Same, typename T>
DTNN_ALWAYS_INLINE void sigmoid(const Dual<T>& x, Dual<T>& scale) {
  T value;
  sigmoid<T>(x.value, value);
  scale = {value, x.change * (value * (T(1) - value))};
}

// A row of dual numbers in two places: values and changes each lie next to each other. Reads give a Dual.
template <typename T>
struct DualRow {
  const T* value;
  const T* change;

  DTNN_ALWAYS_INLINE Dual<T> operator[](int64_t i) const { return {value[i], change[i]}; }
  friend DTNN_ALWAYS_INLINE DualRow operator+(DualRow row, int64_t offset) {
    return {row.value + offset, row.change + offset};
  }
};

// The same to write to; a place reads as a Dual too.
template <typename T>
struct DualOut {
  T* value;
  T* change;

  struct Place {
    T* value;
    T* change;

    DTNN_ALWAYS_INLINE operator Dual<T>() const { return {*value, *change}; }
    DTNN_ALWAYS_INLINE void operator=(Dual<T> x) const {
      *value = x.value;
      *change = x.change;
    }
  };
  DTNN_ALWAYS_INLINE Place operator[](int64_t i) const { return {value + i, change + i}; }
  DTNN_ALWAYS_INLINE operator DualRow<T>() const { return {value, change}; }
  friend DTNN_ALWAYS_INLINE DualOut operator+(DualOut row, int64_t offset) {
    return {row.value + offset, row.change + offset};
  }
};

// A row of which only the changes are kept: results.
template <typename T>
struct ChangeOut {
  T* change;

  DTNN_ALWAYS_INLINE explicit ChangeOut(T* row) : change(row) {}

  struct Place {
    T* change;

    DTNN_ALWAYS_INLINE void operator=(Dual<T> x) const { *change = x.change; }
    DTNN_ALWAYS_INLINE void operator+=(Dual<T> x) const { *change += x.change; }
  };
  DTNN_ALWAYS_INLINE Place operator[](int64_t i) const { return {change + i}; }
};

}  // namespace dtnn
