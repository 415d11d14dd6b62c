// SPDX-License-Identifier: MIT
#include <cmath>

#include "cases.h"
#include "rank2.h"

namespace {

template <typename T>
const char* run(const T* x, const T* gate, const T* weight, const T* residual, T* out, T* linear, int64_t num_atoms,
                int64_t components, int64_t channels_in, int64_t channels_out, int64_t precision) {
  const dtnn::cuda::Rank2GateArgs<T> args{x,
                                          gate,
                                          {weight, 1, channels_in},
                                          residual,
                                          out,
                                          linear,
                                          {num_atoms, components, channels_in, channels_out},
                                          static_cast<dtnn::cuda::Precision>(precision)};
  return dtnn::cuda::launch_rank2_gate(args, nullptr);
}

// grad_x and grad_gate, either of which may be null; channels_in and channels_out are the forward's.
template <typename T>
const char* run_backward(const T* grad_out, const T* gate, const T* weight, const T* linear, T* grad_x, T* grad_gate,
                         int64_t num_atoms, int64_t components, int64_t channels_in, int64_t channels_out,
                         int64_t precision) {
  dtnn::cuda::Rank2Rows<T> rows{};
  rows.origin = dtnn::cuda::Rank2Rows<T>::kThroughGate;
  rows.rows = grad_out;
  rows.mixed = linear;
  rows.invariant = gate;
  rows.grad_gate = grad_gate;
  if (grad_x == nullptr) {
    return dtnn::cuda::launch_rank2_gate_grad(
        dtnn::cuda::Rank2GateGradArgs<T>{rows, num_atoms, components, channels_out}, nullptr);
  }
  const dtnn::cuda::Rank2LinearArgs<T> args{rows,
                                            {weight, channels_in, 1},
                                            grad_x,
                                            nullptr,
                                            0,
                                            {num_atoms, components, channels_out, channels_in},
                                            static_cast<dtnn::cuda::Precision>(precision)};
  return dtnn::cuda::launch_rank2_linear(args, nullptr);
}

// With gates of 0, whose sigmoid is a half, everything is exact. `shift` as in rank2_linear.cpp.
template <typename T>
std::string check(int64_t num_atoms, int64_t components, int64_t channels_in, int64_t channels_out, int shift) {
  const int64_t num_rows = num_atoms * components;
  const std::vector<T> x = dtnn::cases::integers<T>(num_rows * channels_in);
  const std::vector<T> weight = dtnn::cases::integers<T>(channels_in * channels_out);
  const std::vector<T> residual = dtnn::cases::integers<T>(num_rows * channels_out + shift);
  const std::vector<T> gate(num_atoms * channels_out + shift, T(0));
  std::vector<T> out(num_rows * channels_out + shift, T(1e9)), linear(out);
  const char* error = run<T>(x.data(), gate.data() + shift, weight.data(), residual.data() + shift, out.data() + shift,
                             linear.data() + shift, num_atoms, components, channels_in, channels_out, 0);
  if (error != nullptr) return error;
  for (int64_t i = 0; i < num_rows * channels_out; ++i) {
    T sum = 0;
    for (int64_t c = 0; c < channels_in; ++c) {
      sum += x[i / channels_out * channels_in + c] * weight[i % channels_out * channels_in + c];
    }
    if (linear[shift + i] != sum || out[shift + i] != sum / 2 + residual[shift + i]) return "wrong gate";
  }
  std::vector<T> grad_x(num_rows * channels_in + shift), grad_gate(gate.size()), alone(gate.size());
  const T* const grad_out = residual.data() + shift;
  error = run_backward<T>(grad_out, gate.data() + shift, weight.data(), linear.data() + shift, grad_x.data() + shift,
                          grad_gate.data() + shift, num_atoms, components, channels_in, channels_out, 0);
  if (error != nullptr) return error;
  error = run_backward<T>(grad_out, gate.data() + shift, weight.data(), linear.data() + shift, nullptr,
                          alone.data() + shift, num_atoms, components, channels_in, channels_out, 0);
  if (error != nullptr) return error;
  for (int64_t i = 0; i < num_rows * channels_in; ++i) {
    T sum = 0;
    for (int64_t d = 0; d < channels_out; ++d) {
      sum += grad_out[i / channels_in * channels_out + d] / 2 * weight[d * channels_in + i % channels_in];
    }
    if (grad_x[shift + i] != sum) return "wrong grad_x";
  }
  for (int64_t i = 0; i < num_atoms * channels_out; ++i) {
    T sum = 0;
    for (int64_t k = 0; k < components; ++k) {
      const int64_t row = (i / channels_out * components + k) * channels_out + i % channels_out;
      sum += grad_out[row] * linear[shift + row];
    }
    if (grad_gate[shift + i] != sum / 4 || alone[shift + i] != sum / 4) return "wrong grad_gate";
  }
  return "";
}

}  // namespace

#define RANK2_GATE(T, suffix)                                                                                        \
  const char* rank2_gate_##suffix(const T* x, const T* gate, const T* weight, const T* residual, T* out, T* linear,  \
                                  int64_t num_atoms, int64_t components, int64_t channels_in, int64_t channels_out,  \
                                  int64_t precision) {                                                               \
    return run(x, gate, weight, residual, out, linear, num_atoms, components, channels_in, channels_out, precision); \
  }                                                                                                                  \
  const char* rank2_gate_backward_##suffix(const T* grad_out, const T* gate, const T* weight, const T* linear,       \
                                           T* grad_x, T* grad_gate, int64_t num_atoms, int64_t components,           \
                                           int64_t channels_in, int64_t channels_out, int64_t precision) {           \
    return run_backward(grad_out, gate, weight, linear, grad_x, grad_gate, num_atoms, components, channels_in,       \
                        channels_out, precision);                                                                    \
  }
extern "C" {
RANK2_GATE(float, f32)
RANK2_GATE(double, f64)
}

DTNN_CASE(rank2_gate) {
  for (const int64_t num_atoms : {0, 1, 37}) {
    for (const int64_t components : {1, 3, 6}) {
      for (const int64_t channels_in : {1, 16, 37}) {
        for (const int64_t channels_out : {1, 20, 64}) {
          std::string error = check<float>(num_atoms, components, channels_in, channels_out, 0);
          if (error.empty()) error = check<double>(num_atoms, components, channels_in, channels_out, 0);
          if (error.empty()) error = check<float>(num_atoms, components, channels_in, channels_out, 1);
          if (!error.empty()) return error;
        }
      }
    }
  }
  return check<float>(10, 3, 40, 150, 0);
}
