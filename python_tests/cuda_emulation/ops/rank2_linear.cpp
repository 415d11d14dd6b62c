// SPDX-License-Identifier: MIT
#include <cmath>

#include "cases.h"
#include "rank2.h"

namespace {

using dtnn::cuda::Rank2Rows;

// The weight is [D, C]; with `transposed` the product is with its transpose: rows of D channels become rows of C.
template <typename T>
const char* run(const T* rows, const T* mixed, const T* grad_norm, const T* old_norm, const T* weight, T* out, T* norm,
                const T* eps, int64_t num_atoms, int64_t components, int64_t channels_in, int64_t channels_out,
                int64_t transposed, int64_t precision) {
  Rank2Rows<T> source{};
  source.origin = grad_norm == nullptr ? Rank2Rows<T>::kGiven : Rank2Rows<T>::kThroughNorm;
  source.rows = rows;
  source.mixed = mixed;
  source.invariant = grad_norm;
  source.norm = old_norm;
  source.eps = *eps;
  const int64_t in_stride = transposed ? channels_out : 1, out_stride = transposed ? 1 : channels_in;
  const dtnn::cuda::Rank2LinearArgs<T> args{source,
                                            {weight, in_stride, out_stride},
                                            out,
                                            norm,
                                            *eps,
                                            {num_atoms, components, channels_in, channels_out},
                                            static_cast<dtnn::cuda::Precision>(precision)};
  return dtnn::cuda::launch_rank2_linear(args, nullptr);
}

// Products of small integers are exact. `shift` numbers are left free at the start of the rows and of the output, so
// that their addresses are no multiples of 16.
template <typename T>
std::string check(int64_t num_atoms, int64_t components, int64_t channels_in, int64_t channels_out, int transposed,
                  int precision, int shift) {
  const int64_t num_rows = num_atoms * components;
  const std::vector<T> buffer = dtnn::cases::integers<T>(num_rows * channels_in + shift);
  const std::vector<T> weight = dtnn::cases::integers<T>(channels_in * channels_out);
  const T* const rows = buffer.data() + shift;
  std::vector<T> out(num_rows * channels_out + shift, T(1e9)), norm(num_atoms * channels_out + shift, T(1e9));
  std::vector<T> expected(out.size(), T(1e9)), expected_norm(norm.size(), T(1e9));
  const T eps = 1;
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t d = 0; d < channels_out; ++d) {
      T sum = 0;
      for (int64_t c = 0; c < channels_in; ++c) {
        sum += rows[row * channels_in + c] * weight[transposed ? c * channels_out + d : d * channels_in + c];
      }
      expected[shift + row * channels_out + d] = sum;
      T& squares = expected_norm[shift + row / components * channels_out + d];
      if (row % components == 0) squares = 0;
      squares += (row % components >= 3 ? 2 : 1) * sum * sum;
      if (row % components == components - 1) squares = std::sqrt(squares + eps * eps) - eps;
    }
  }
  const char* const error =
      run<T>(rows, nullptr, nullptr, nullptr, weight.data(), out.data() + shift, norm.data() + shift, &eps, num_atoms,
             components, channels_in, channels_out, transposed, precision);
  if (error != nullptr) return error;
  if (out == expected && norm == expected_norm) return "";
  return "wrong product for N, K, C, D = " + std::to_string(num_atoms) + ", " + std::to_string(components) + ", " +
         std::to_string(channels_in) + ", " + std::to_string(channels_out);
}

// The backward through the norm: only that nothing is read or written outside.
template <typename T>
std::string touch(int64_t num_atoms, int64_t components, int64_t channels_in, int64_t channels_out) {
  const std::vector<T> rows(num_atoms * components * channels_in, T(1)), mixed(rows),
      invariant(num_atoms * channels_in, T(1)), norm(invariant), weight(channels_in * channels_out, T(1));
  std::vector<T> out(num_atoms * components * channels_out);
  const T eps = 1;
  const char* const error = run<T>(rows.data(), mixed.data(), invariant.data(), norm.data(), weight.data(), out.data(),
                                   nullptr, &eps, num_atoms, components, channels_in, channels_out, 1, 0);
  if (error != nullptr) return error;
  // total = 1 + 1 * 1 / (1 + 1), off-diagonals 1 + 2 / 2.
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t component = static_cast<int64_t>(i) / channels_out % components;
    if (out[i] != (component >= 3 ? T(2) : T(1.5)) * static_cast<T>(channels_in))
      return "wrong gradient through the norm";
  }
  return "";
}

}  // namespace

#define RANK2_LINEAR(T, name)                                                                                     \
  const char* name(const T* rows, const T* mixed, const T* grad_norm, const T* old_norm, const T* weight, T* out, \
                   T* norm, const T* eps, int64_t num_atoms, int64_t components, int64_t channels_in,             \
                   int64_t channels_out, int64_t transposed, int64_t precision) {                                 \
    return run(rows, mixed, grad_norm, old_norm, weight, out, norm, eps, num_atoms, components, channels_in,      \
               channels_out, transposed, precision);                                                              \
  }
extern "C" {
RANK2_LINEAR(float, rank2_linear_f32)
RANK2_LINEAR(double, rank2_linear_f64)
}

DTNN_CASE(rank2_linear) {
  for (const int64_t num_atoms : {0, 1, 37}) {
    for (const int64_t components : {1, 3, 6}) {
      for (const int64_t channels_in : {1, 16, 37, 64}) {
        for (const int64_t channels_out : {1, 20, 64}) {
          std::string error = check<float>(num_atoms, components, channels_in, channels_out, 0, 0, 0);
          if (error.empty()) error = check<double>(num_atoms, components, channels_in, channels_out, 1, 0, 0);
          if (error.empty()) error = check<float>(num_atoms, components, channels_in, channels_out, 1, 0, 1);
          if (error.empty()) error = touch<float>(num_atoms, components, channels_in, channels_out);
          if (error.empty()) error = touch<double>(num_atoms, components, channels_in, channels_out);
          if (!error.empty()) return error;
        }
      }
    }
  }
  // Tensor cores, exact for integers that bfloat16 holds; a weight that does not stay in shared memory; many columns.
  for (const int precision : {1, 2}) {
    const std::string error = check<float>(20, 3, 40, 36, precision - 1, precision, 0);
    if (!error.empty()) return error;
  }
  const std::string error = check<float>(20, 6, 300, 131, 0, 0, 0);
  return error.empty() ? check<double>(9, 3, 200, 70, 1, 0, 0) : error;
}
