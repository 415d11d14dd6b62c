// SPDX-License-Identifier: MIT
#include <cmath>

#include "ops/bond_geometry.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kBondsPerTask = 2048;

template <typename T>
void forward(const Tensor& vectors, T cutoff, int64_t num_radial, BondGeometryOut& out) {
  const T* v = vectors.const_data_ptr<T>();
  T* lengths = out.length.mutable_data_ptr<T>();
  T* directions = out.direction.mutable_data_ptr<T>();
  T* envelopes = out.envelope.mutable_data_ptr<T>();
  T* radials = out.radial.mutable_data_ptr<T>();
  const T wave = static_cast<T>(kPi) / cutoff, factor = std::sqrt(T(2) / cutoff);
  torch::stable::parallel_for(0, vectors.size(0), kBondsPerTask, [&](int64_t first, int64_t last) {
    for (int64_t e = first; e < last; ++e) {
      const T* r = v + 3 * e;
      const T length = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
      lengths[e] = length;
      for (int k = 0; k < 3; ++k) directions[3 * e + k] = r[k] / length;
      const T x = length / cutoff < T(1) || length != length ? length / cutoff : T(1);
      const T x6 = (x * x) * (x * x) * (x * x);
      envelopes[e] = T(1) + x6 * (T(-28) + x * (T(48) - T(21) * x));
      const T sin1 = std::sin(wave * length), cos1 = std::cos(wave * length), scale = factor / length;
      T sin = sin1, cos = cos1;
      for (int64_t k = 0; k < num_radial; ++k) {
        radials[e * num_radial + k] = scale * sin;
        const T next = sin * cos1 + cos * sin1;
        cos = cos * cos1 - sin * sin1;
        sin = next;
      }
    }
  });
}

template <typename T>
void backward(const Tensor& vectors, T cutoff, int64_t num_radial, const BondGeometryGrads& grads,
              Tensor& grad_vectors) {
  const T* v = vectors.const_data_ptr<T>();
  const T* grad_length = data_or_null<T>(grads.length);
  const T* grad_direction = data_or_null<T>(grads.direction);
  const T* grad_envelope = data_or_null<T>(grads.envelope);
  const T* grad_radial = data_or_null<T>(grads.radial);
  T* out = grad_vectors.mutable_data_ptr<T>();
  const T wave = static_cast<T>(kPi) / cutoff, factor = std::sqrt(T(2) / cutoff);
  torch::stable::parallel_for(0, vectors.size(0), kBondsPerTask, [&](int64_t first, int64_t last) {
    for (int64_t e = first; e < last; ++e) {
      const T* r = v + 3 * e;
      const T length = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]), inverse = T(1) / length;
      T along = grad_length == nullptr ? T(0) : grad_length[e];  // the gradient of the length
      if (grad_envelope != nullptr) {
        const T x = length / cutoff;
        const T x2 = x * x, left = T(1) - x;
        if (!(x >= T(1))) along += grad_envelope[e] * (T(-168) * x2 * x2 * x * left * left / cutoff);
      }
      if (grad_radial != nullptr) {
        const T sin1 = std::sin(wave * length), cos1 = std::cos(wave * length), scale = factor * inverse;
        T sin = sin1, cos = cos1;
        for (int64_t k = 0; k < num_radial; ++k) {
          const T slope = scale * (static_cast<T>(k + 1) * wave * cos - sin * inverse);
          along += grad_radial[e * num_radial + k] * slope;
          const T next = sin * cos1 + cos * sin1;
          cos = cos * cos1 - sin * sin1;
          sin = next;
        }
      }
      const T u[3] = {r[0] / length, r[1] / length, r[2] / length};
      const T* g = grad_direction == nullptr ? nullptr : grad_direction + 3 * e;
      const T radial_part = g == nullptr ? T(0) : u[0] * g[0] + u[1] * g[1] + u[2] * g[2];
      for (int k = 0; k < 3; ++k) {
        const T across = g == nullptr ? T(0) : (g[k] - u[k] * radial_part) * inverse;
        out[3 * e + k] = u[k] * along + across;
      }
    }
  });
}

}  // namespace

void bond_geometry_cpu(const Tensor& vectors, double cutoff, int64_t num_radial, BondGeometryOut& out) {
  advise_large_pages(out.radial);
  if (vectors.scalar_type() == ScalarType::Float) {
    return forward<float>(vectors, static_cast<float>(cutoff), num_radial, out);
  }
  return forward<double>(vectors, cutoff, num_radial, out);
}

void bond_geometry_backward_cpu(const Tensor& vectors, double cutoff, int64_t num_radial,
                                const BondGeometryGrads& grads, Tensor& grad_vectors) {
  if (vectors.scalar_type() == ScalarType::Float) {
    return backward<float>(vectors, static_cast<float>(cutoff), num_radial, grads, grad_vectors);
  }
  return backward<double>(vectors, cutoff, num_radial, grads, grad_vectors);
}

}  // namespace dtnn
