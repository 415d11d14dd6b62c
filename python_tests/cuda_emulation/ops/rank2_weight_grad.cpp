// SPDX-License-Identifier: MIT
#include "cases.h"
#include "rank2.h"

namespace {

using dtnn::cuda::Rank2Rows;

// total: grad_y alone; with grad_norm also through the norm; with a gate, scaled by its sigmoid. The partial sums are
// poisoned.
template <typename T>
const char* run(const T* grad, const T* y, const T* grad_norm, const T* norm, const T* gate, const T* x, T* grad_weight,
                const T* eps, int64_t num_atoms, int64_t components, int64_t channels_in, int64_t channels_out,
                int64_t precision) {
  const dtnn::cuda::Rank2Sizes sizes{num_atoms, components, channels_in, channels_out};
  std::vector<T> partial(dtnn::cuda::rank2_weight_grad_partials(sizes) * channels_in * channels_out, T(0) / T(0));
  Rank2Rows<T> total{};
  total.origin = Rank2Rows<T>::kGiven;
  total.rows = grad;
  total.eps = *eps;
  if (grad_norm != nullptr) {
    total.origin = Rank2Rows<T>::kThroughNorm;
    total.mixed = y;
    total.invariant = grad_norm;
    total.norm = norm;
  } else if (gate != nullptr) {
    total.origin = Rank2Rows<T>::kThroughGate;
    total.invariant = gate;
  }
  const dtnn::cuda::Rank2WeightGradArgs<T> args{total,          x,     grad_weight,
                                                partial.data(), sizes, static_cast<dtnn::cuda::Precision>(precision)};
  return dtnn::cuda::launch_rank2_weight_grad(args, nullptr);
}

// Sums of products of small integers are exact. With a gate of 0 and with norms of 0 for eps = 1, the factors of the
// rows are a half, and 1 plus the component's weight. `shift` as in rank2_linear.cpp.
template <typename T>
std::string check(int64_t num_atoms, int64_t components, int64_t channels_in, int64_t channels_out, int precision,
                  int shift) {
  const int64_t num_rows = num_atoms * components;
  const std::vector<T> buffer = dtnn::cases::integers<T>(num_rows * channels_in + shift);
  const std::vector<T> grad = dtnn::cases::integers<T>(num_rows * channels_out);
  const std::vector<T> zeros(num_atoms * channels_out, T(0)), ones(zeros.size(), T(1));
  const T* const x = buffer.data() + shift;
  std::vector<T> given(channels_out * channels_in, T(1e9)), gated(given), through_norm(given);
  const T eps = 1;
  const char* error = run<T>(grad.data(), nullptr, nullptr, nullptr, nullptr, x, given.data(), &eps, num_atoms,
                             components, channels_in, channels_out, precision);
  if (error != nullptr) return error;
  error = run<T>(grad.data(), nullptr, nullptr, nullptr, zeros.data(), x, gated.data(), &eps, num_atoms, components,
                 channels_in, channels_out, precision);
  if (error != nullptr) return error;
  error = run<T>(grad.data(), grad.data(), ones.data(), zeros.data(), nullptr, x, through_norm.data(), &eps, num_atoms,
                 components, channels_in, channels_out, precision);
  if (error != nullptr) return error;
  for (int64_t i = 0; i < channels_out * channels_in; ++i) {
    T sum = 0, weighted = 0;
    for (int64_t row = 0; row < num_rows; ++row) {
      const T product = grad[row * channels_out + i / channels_in] * x[row * channels_in + i % channels_in];
      sum += product;
      weighted += product * (row % components >= 3 ? 3 : 2);
    }
    if (given[i] != sum || gated[i] != sum / 2 || through_norm[i] != weighted) {
      return "wrong gradient of the weight for N, K, C, D = " + std::to_string(num_atoms) + ", " +
             std::to_string(components) + ", " + std::to_string(channels_in) + ", " + std::to_string(channels_out);
    }
  }
  return "";
}

}  // namespace

#define RANK2_WEIGHT_GRAD(T, name)                                                                                    \
  const char* name(const T* grad, const T* y, const T* grad_norm, const T* norm, const T* gate, const T* x,           \
                   T* grad_weight, const T* eps, int64_t num_atoms, int64_t components, int64_t channels_in,          \
                   int64_t channels_out, int64_t precision) {                                                         \
    return run(grad, y, grad_norm, norm, gate, x, grad_weight, eps, num_atoms, components, channels_in, channels_out, \
               precision);                                                                                            \
  }
extern "C" {
RANK2_WEIGHT_GRAD(float, rank2_weight_grad_f32)
RANK2_WEIGHT_GRAD(double, rank2_weight_grad_f64)
}

DTNN_CASE(rank2_weight_grad) {
  for (const int64_t num_atoms : {0, 1, 90}) {
    for (const int64_t components : {1, 3, 6}) {
      for (const int64_t channels_in : {1, 37, 64}) {
        for (const int64_t channels_out : {1, 20, 64}) {
          std::string error = check<float>(num_atoms, components, channels_in, channels_out, 0, 0);
          if (error.empty()) error = check<double>(num_atoms, components, channels_in, channels_out, 0, 0);
          if (error.empty()) error = check<float>(num_atoms, components, channels_in, channels_out, 0, 1);
          if (!error.empty()) return error;
        }
      }
    }
  }
  for (const int precision : {1, 2}) {
    const std::string error = check<float>(20, 3, 40, 36, precision, 0);
    if (!error.empty()) return error;
  }
  const std::string error = check<float>(20, 6, 300, 131, 0, 0);
  return error.empty() ? check<double>(9, 3, 200, 70, 0, 0) : error;
}
