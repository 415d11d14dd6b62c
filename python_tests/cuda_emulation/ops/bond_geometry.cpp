// SPDX-License-Identifier: MIT
#include "bond_geometry.h"

#include <cmath>

#include "cases.h"

namespace {

template <typename T>
const char* forward(const T* vectors, double cutoff, T* const* out, int64_t bonds, int64_t radial) {
  return dtnn::cuda::launch_bond_geometry<T>({vectors, static_cast<T>(cutoff), bonds, radial},
                                             {out[0], out[1], out[2], out[3]}, nullptr);
}

template <typename T>
const char* backward(const T* vectors, double cutoff, const T* const* grads, T* out, int64_t bonds, int64_t radial) {
  return dtnn::cuda::launch_bond_geometry_backward<T>({vectors, static_cast<T>(cutoff), bonds, radial},
                                                      {grads[0], grads[1], grads[2], grads[3]}, out, nullptr);
}

// Buffers of exact size; lengths and directions are exact for vectors along x.
template <typename T>
std::string check(int64_t bonds, int64_t radial) {
  std::vector<T> vectors(3 * bonds, T(0)), length(bonds), direction(3 * bonds), envelope(bonds), waves(bonds * radial);
  for (int64_t e = 0; e < bonds; ++e) vectors[3 * e] = static_cast<T>(e % 7 + 1);
  T* const out[4] = {length.data(), direction.data(), envelope.data(), waves.data()};
  const char* error = forward(vectors.data(), 5.0, out, bonds, radial);
  if (error != nullptr) return error;
  for (int64_t e = 0; e < bonds; ++e) {
    if (length[e] != vectors[3 * e] || direction[3 * e] != T(1)) return "wrong length or direction";
    if (length[e] >= 5 && envelope[e] != T(0)) return "wrong envelope";
  }
  std::vector<T> grad(3 * bonds, T(NAN));
  const T* const ones[4] = {direction.data(), direction.data(), envelope.data(), waves.data()};
  error = backward(vectors.data(), 5.0, ones, grad.data(), bonds, radial);
  if (error != nullptr) return error;
  const T* const none[4] = {nullptr, nullptr, nullptr, nullptr};
  error = backward(vectors.data(), 5.0, none, grad.data(), bonds, radial);
  if (error != nullptr) return error;
  for (const T g : grad) {
    if (g != T(0)) return "wrong gradient without gradients of the results";
  }
  return "";
}

}  // namespace

#define DTNN_BOND_GEOMETRY(suffix, T)                                                                                 \
  extern "C" const char* bond_geometry_##suffix(const T* vectors, const double* cutoff, T* const* out, int64_t bonds, \
                                                int64_t radial) {                                                     \
    return forward(vectors, *cutoff, out, bonds, radial);                                                             \
  }                                                                                                                   \
  extern "C" const char* bond_geometry_backward_##suffix(                                                             \
      const T* vectors, const double* cutoff, const T* const* grads, T* out, int64_t bonds, int64_t radial) {         \
    return backward(vectors, *cutoff, grads, out, bonds, radial);                                                     \
  }
DTNN_BOND_GEOMETRY(f32, float)
DTNN_BOND_GEOMETRY(f64, double)

DTNN_CASE(bond_geometry) {
  for (const int64_t bonds : {0, 1, 700}) {
    for (const int64_t radial : {0, 1, 8}) {
      std::string error = check<float>(bonds, radial);
      if (error.empty()) error = check<double>(bonds, radial);
      if (!error.empty()) return error;
    }
  }
  return "";
}
