// SPDX-License-Identifier: MIT
#include <cmath>

#include "core/dual.h"
#include "ops/bond_geometry.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kBondsPerTask = 2048;

using std::cos;
using std::sin;
using std::sqrt;

template <typename T>
Dual<T> sin(Dual<T> x) {
  return {std::sin(x.value), x.change * std::cos(x.value)};
}
template <typename T>
Dual<T> cos(Dual<T> x) {
  return {std::cos(x.value), -x.change * std::sin(x.value)};
}

template <typename T>
T value_of(T x) {
  return x;
}
template <typename T>
T value_of(Dual<T> x) {
  return x.value;
}

// The functions of one bond vector and their backward, in plain numbers or in dual ones (core/dual.h).
template <typename T>
struct Geometry {
  Geometry(T given_cutoff, int64_t count)
      : cutoff(given_cutoff), wave(static_cast<T>(kPi) / cutoff), factor(std::sqrt(T(2) / cutoff)), num_radial(count) {}

  // Of direction [3] and radial [R]; takes them one by one: set_direction(k, number), set_radial(k, number).
  template <typename Number, typename SetDirection, typename SetRadial>
  void forward(const Number (&r)[3], Number& length, Number& envelope, const SetDirection& set_direction,
               const SetRadial& set_radial) const {
    length = sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    for (int k = 0; k < 3; ++k) set_direction(k, r[k] / length);
    const Number relative = length / cutoff;
    const Number x = value_of(relative) < T(1) || value_of(length) != value_of(length) ? relative : Number(T(1));
    const Number x6 = (x * x) * (x * x) * (x * x);
    envelope = T(1) + x6 * (T(-28) + x * (T(48) - T(21) * x));
    const Number sin1 = sin(wave * length), cos1 = cos(wave * length), scale = factor / length;
    Number s = sin1, c = cos1;
    for (int64_t k = 0; k < num_radial; ++k) {
      set_radial(k, scale * s);
      const Number next = s * cos1 + c * sin1;
      c = c * cos1 - s * sin1;
      s = next;
    }
  }

  // `g_direction` and `g_radial` are null where absent, `along` is the gradient of the length. out: of r.
  template <typename Number>
  void backward(const Number (&r)[3], Number along, const T* g_direction, const T* g_envelope, const T* g_radial,
                Number (&out)[3]) const {
    const Number length = sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]), inverse = T(1) / length;
    if (g_envelope != nullptr) {
      const Number x = length / cutoff;
      const Number x2 = x * x, left = T(1) - x;
      if (!(value_of(x) >= T(1))) along += *g_envelope * (T(-168) * x2 * x2 * x * left * left / cutoff);
    }
    if (g_radial != nullptr) {
      const Number sin1 = sin(wave * length), cos1 = cos(wave * length), scale = factor * inverse;
      Number s = sin1, c = cos1;
      for (int64_t k = 0; k < num_radial; ++k) {
        const Number slope = scale * (static_cast<T>(k + 1) * wave * c - s * inverse);
        along += g_radial[k] * slope;
        const Number next = s * cos1 + c * sin1;
        c = c * cos1 - s * sin1;
        s = next;
      }
    }
    const Number u[3] = {r[0] / length, r[1] / length, r[2] / length};
    const T* g = g_direction;
    const Number radial_part = g == nullptr ? Number(T(0)) : u[0] * g[0] + u[1] * g[1] + u[2] * g[2];
    for (int k = 0; k < 3; ++k) {
      const Number across = g == nullptr ? Number(T(0)) : (g[k] - u[k] * radial_part) * inverse;
      out[k] = u[k] * along + across;
    }
  }

  T cutoff;
  T wave;
  T factor;
  int64_t num_radial;
};

// Gradients of the functions at one bond, null where absent.
template <typename T>
struct GradsOfBonds {
  explicit GradsOfBonds(const BondGeometryGrads& grads)
      : length(data_or_null<T>(grads.length)),
        direction(data_or_null<T>(grads.direction)),
        envelope(data_or_null<T>(grads.envelope)),
        radial(data_or_null<T>(grads.radial)) {}

  template <typename Number>
  void backward(const Geometry<T>& geometry, int64_t e, const Number (&r)[3], Number (&out)[3]) const {
    geometry.backward(r, Number(length == nullptr ? T(0) : length[e]),
                      direction == nullptr ? nullptr : direction + 3 * e, envelope == nullptr ? nullptr : envelope + e,
                      radial == nullptr ? nullptr : radial + e * geometry.num_radial, out);
  }

  const T* length;
  const T* direction;
  const T* envelope;
  const T* radial;
};

template <typename T>
void forward(const Tensor& vectors, T cutoff, int64_t num_radial, BondGeometryOut& out) {
  const T* v = vectors.const_data_ptr<T>();
  T* lengths = out.length.mutable_data_ptr<T>();
  T* directions = out.direction.mutable_data_ptr<T>();
  T* envelopes = out.envelope.mutable_data_ptr<T>();
  T* radials = out.radial.mutable_data_ptr<T>();
  const Geometry<T> geometry(cutoff, num_radial);
  torch::stable::parallel_for(0, vectors.size(0), kBondsPerTask, [&](int64_t first, int64_t last) {
    for (int64_t e = first; e < last; ++e) {
      const T r[3] = {v[3 * e], v[3 * e + 1], v[3 * e + 2]};
      geometry.forward(
          r, lengths[e], envelopes[e], [&](int k, T x) { directions[3 * e + k] = x; },
          [&](int64_t k, T x) { radials[e * num_radial + k] = x; });
    }
  });
}

template <typename T>
void backward(const Tensor& vectors, T cutoff, int64_t num_radial, const BondGeometryGrads& given,
              Tensor& grad_vectors) {
  const T* v = vectors.const_data_ptr<T>();
  T* to = grad_vectors.mutable_data_ptr<T>();
  const GradsOfBonds<T> grads(given);
  const Geometry<T> geometry(cutoff, num_radial);
  torch::stable::parallel_for(0, vectors.size(0), kBondsPerTask, [&](int64_t first, int64_t last) {
    for (int64_t e = first; e < last; ++e) {
      const T r[3] = {v[3 * e], v[3 * e + 1], v[3 * e + 2]};
      T out[3];
      grads.backward(geometry, e, r, out);
      for (int k = 0; k < 3; ++k) to[3 * e + k] = out[k];
    }
  });
}

// The gradients of the gradients of the functions, and of the vectors where needed: changes along `change_vectors`.
template <typename T>
void double_backward(const Tensor& change_vectors, const Tensor& vectors, T cutoff, int64_t num_radial,
                     const BondGeometryGrads& given, BondGeometryOut& changes, Tensor* grad_vectors) {
  const T* v = vectors.const_data_ptr<T>();
  const T* change = change_vectors.const_data_ptr<T>();
  T* lengths = changes.length.mutable_data_ptr<T>();
  T* directions = changes.direction.mutable_data_ptr<T>();
  T* envelopes = changes.envelope.mutable_data_ptr<T>();
  T* radials = changes.radial.mutable_data_ptr<T>();
  T* to = grad_vectors == nullptr ? nullptr : grad_vectors->mutable_data_ptr<T>();
  const GradsOfBonds<T> grads(given);
  const Geometry<T> geometry(cutoff, num_radial);
  torch::stable::parallel_for(0, vectors.size(0), kBondsPerTask, [&](int64_t first, int64_t last) {
    for (int64_t e = first; e < last; ++e) {
      Dual<T> r[3], length, envelope, out[3];
      for (int k = 0; k < 3; ++k) r[k] = {v[3 * e + k], change[3 * e + k]};
      const Dual<T>(&moving)[3] = r;
      geometry.forward(
          moving, length, envelope, [&](int k, Dual<T> x) { directions[3 * e + k] = x.change; },
          [&](int64_t k, Dual<T> x) { radials[e * num_radial + k] = x.change; });
      lengths[e] = length.change;
      envelopes[e] = envelope.change;
      if (to == nullptr) continue;
      grads.backward(geometry, e, moving, out);
      for (int k = 0; k < 3; ++k) to[3 * e + k] = out[k].change;
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

void bond_geometry_double_backward_cpu(const Tensor& change_vectors, const Tensor& vectors, double cutoff,
                                       int64_t num_radial, const BondGeometryGrads& grads, BondGeometryOut& changes,
                                       Tensor* grad_vectors) {
  if (vectors.scalar_type() == ScalarType::Float) {
    return double_backward<float>(change_vectors, vectors, static_cast<float>(cutoff), num_radial, grads, changes,
                                  grad_vectors);
  }
  return double_backward<double>(change_vectors, vectors, cutoff, num_radial, grads, changes, grad_vectors);
}

}  // namespace dtnn
