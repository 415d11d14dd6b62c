// SPDX-License-Identifier: MIT
#include <algorithm>
#include <vector>

#include "core/simd_level.h"
#include "ops/bond_vectors.h"
#include "ops/tensor_readout.h"

namespace dtnn {
namespace {

// Sums over channels keep this many partial sums, so that they fill vectors of any width and stay the same on all.
constexpr int kLanes = 16;

// The sum over channels of terms(c), channels c, c + 16, ... in one partial sum.
template <typename T, typename Terms>
DTNN_ALWAYS_INLINE T sum_channels(int64_t channels, const Terms& terms) {
  T sums[kLanes] = {};
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += terms(c + lane);
  }
  T sum = 0;
  if (c > 0) {
    for (int lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  }
  for (; c < channels; ++c) sum += terms(c);
  return sum;
}

// The six components of one atom's tensor.
template <typename T>
DTNN_ALWAYS_INLINE void atom_tensors(const T* s, const T* v, const T* t, int64_t channels, int64_t atoms, T* out) {
  for (int64_t n = 0; n < atoms; ++n, s += channels, v += 3 * channels, t += 6 * channels, out += 6) {
    const T* x = v;
    const T* y = v + channels;
    const T* z = v + 2 * channels;
    const T isotropic = sum_channels<T>(channels, [&](int64_t c) { return s[c]; });
    const auto component = [&](int k, const T* left, const T* right) {
      const T* stored = t + k * channels;
      return sum_channels<T>(channels, [&](int64_t c) { return left[c] * right[c] + stored[c]; });
    };
    out[0] = isotropic + component(0, x, x);
    out[1] = isotropic + component(1, y, y);
    out[2] = isotropic + component(2, z, z);
    out[3] = component(3, y, z);
    out[4] = component(4, x, z);
    out[5] = component(5, x, y);
  }
}

DTNN_SIMD_VERSIONS(void, fill_atom_tensors, atom_tensors,
                   (const float* s, const float* v, const float* t, int64_t channels, int64_t atoms, float* out),
                   (s, v, t, channels, atoms, out))
DTNN_SIMD_VERSIONS(void, fill_atom_tensors, atom_tensors,
                   (const double* s, const double* v, const double* t, int64_t channels, int64_t atoms, double* out),
                   (s, v, t, channels, atoms, out))

// A checked ptr: ascending from 0 to N, every crystal with atoms.
const int64_t* checked_ptr(const char* op, const Tensor& ptr, int64_t num_atoms) {
  const int64_t* values = ptr.const_data_ptr<int64_t>();
  const int64_t num_crystals = ptr.size(0) - 1;
  check_ptr_values(op, values, num_crystals, num_atoms);
  for (int64_t b = 0; b < num_crystals; ++b) {
    DTNN_CHECK(values[b] < values[b + 1], op, ": expected `ptr` with at least one atom in every crystal, got none in ",
               "crystal ", b);
  }
  return values;
}

template <typename T>
void forward(const ReadoutInputs& inputs, Tensor& epsilon) {
  const int64_t num_atoms = inputs.atom_scalar.size(0), channels = inputs.atom_scalar.size(1);
  const int64_t num_crystals = epsilon.size(0);
  const int64_t* ptr = checked_ptr("tensor_readout", inputs.ptr, num_atoms);
  const T* s = inputs.atom_scalar.const_data_ptr<T>();
  const T* v = inputs.atom_vector.const_data_ptr<T>();
  const T* t = inputs.atom_rank2.const_data_ptr<T>();
  T* out = epsilon.mutable_data_ptr<T>();

  // Six numbers an atom in between: threads share the atoms of one large crystal, and the sum keeps its order.
  std::vector<T> tensors(6 * num_atoms);
  const int64_t grain = std::max<int64_t>(1, 32768 / (10 * channels + 1));
  torch::stable::parallel_for(0, num_atoms, grain, [&](int64_t first, int64_t last) {
    fill_atom_tensors(s + first * channels, v + first * 3 * channels, t + first * 6 * channels, channels, last - first,
                      tensors.data() + 6 * first);
  });
  for (int64_t b = 0; b < num_crystals; ++b, out += 9) {
    double sums[6] = {};
    for (int64_t n = ptr[b]; n < ptr[b + 1]; ++n) {
      for (int k = 0; k < 6; ++k) sums[k] += tensors[6 * n + k];
    }
    T mean[6];
    for (int k = 0; k < 6; ++k) mean[k] = static_cast<T>(sums[k] / static_cast<double>(ptr[b + 1] - ptr[b]));
    const T full[9] = {mean[0], mean[5], mean[4], mean[5], mean[1], mean[3], mean[4], mean[3], mean[2]};
    std::copy(full, full + 9, out);
  }
}

template <typename T>
void backward(const Tensor& grad, const Tensor& atom_vector, const Tensor& ptr_tensor, ReadoutGrads& grads) {
  const int64_t num_atoms = atom_vector.size(0), channels = atom_vector.size(2), num_crystals = grad.size(0);
  const int64_t* ptr = checked_ptr("tensor_readout_backward", ptr_tensor, num_atoms);
  const T* all_grads = grad.const_data_ptr<T>();
  const T* vectors = atom_vector.const_data_ptr<T>();
  T* grad_s = grads.grad_scalar.mutable_data_ptr<T>();
  T* grad_v = grads.grad_vector.mutable_data_ptr<T>();
  T* grad_t = grads.grad_rank2.mutable_data_ptr<T>();
  const int64_t grain = std::max<int64_t>(1, 32768 / (10 * channels + 1));
  torch::stable::parallel_for(0, num_atoms, grain, [&](int64_t first, int64_t last) {
    int64_t b = std::upper_bound(ptr, ptr + num_crystals + 1, first) - ptr - 1;
    for (int64_t n = first; n < last; ++n) {
      while (n >= ptr[b + 1]) ++b;
      const T* g = all_grads + 9 * b;
      const T count = static_cast<T>(ptr[b + 1] - ptr[b]);
      const T trace = (g[0] + g[4] + g[8]) / count;
      const T xx = g[0] / count, yy = g[4] / count, zz = g[8] / count;
      const T yz = (g[5] + g[7]) / count, xz = (g[2] + g[6]) / count, xy = (g[1] + g[3]) / count;
      const T components[6] = {xx, yy, zz, yz, xz, xy};
      std::fill_n(grad_s + n * channels, channels, trace);
      for (int k = 0; k < 6; ++k) std::fill_n(grad_t + (6 * n + k) * channels, channels, components[k]);
      const T* x = vectors + 3 * n * channels;
      const T* y = x + channels;
      const T* z = y + channels;
      T* gx = grad_v + 3 * n * channels;
      T* gy = gx + channels;
      T* gz = gy + channels;
      for (int64_t c = 0; c < channels; ++c) {
        gx[c] = 2 * xx * x[c] + xy * y[c] + xz * z[c];
        gy[c] = xy * x[c] + 2 * yy * y[c] + yz * z[c];
        gz[c] = xz * x[c] + yz * y[c] + 2 * zz * z[c];
      }
    }
  });
}

}  // namespace

void tensor_readout_cpu(const ReadoutInputs& inputs, Tensor& epsilon) {
  if (inputs.atom_scalar.scalar_type() == ScalarType::Float) return forward<float>(inputs, epsilon);
  return forward<double>(inputs, epsilon);
}

void tensor_readout_backward_cpu(const Tensor& grad, const Tensor& atom_vector, const Tensor& ptr,
                                 ReadoutGrads& grads) {
  if (atom_vector.scalar_type() == ScalarType::Float) return backward<float>(grad, atom_vector, ptr, grads);
  return backward<double>(grad, atom_vector, ptr, grads);
}

}  // namespace dtnn
