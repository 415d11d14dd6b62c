// SPDX-License-Identifier: MIT
#include "tensor_readout.h"

#include "cases.h"

namespace {

using dtnn::cases::reported;

constexpr int64_t kHuge = int64_t{1} << 60;

template <typename T>
const char* readout(const T* scalar, const T* vector, const T* rank2, const int64_t* ptr, T* epsilon, int64_t num_atoms,
                    int64_t channels, int64_t num_crystals) {
  std::vector<char> workspace(dtnn::cuda::tensor_readout_workspace(num_atoms, channels));
  const dtnn::cuda::TensorReadoutArgs<T> args{
      scalar,           vector,    rank2,    ptr,          epsilon,
      workspace.data(), num_atoms, channels, num_crystals, dtnn::cases::errors("tensor_readout")};
  return dtnn::cuda::launch_tensor_readout(args, nullptr);
}

template <typename T>
const char* backward(const T* grad, const T* vector, const int64_t* ptr, T* grad_scalar, T* grad_vector, T* grad_rank2,
                     int64_t num_atoms, int64_t channels, int64_t num_crystals) {
  const dtnn::cuda::TensorReadoutBackwardArgs<T> args{
      grad,       vector,    ptr,      grad_scalar,  grad_vector,
      grad_rank2, num_atoms, channels, num_crystals, dtnn::cases::errors("tensor_readout_backward")};
  return dtnn::cuda::launch_tensor_readout_backward(args, nullptr);
}

// Both kernels. `shift` numbers are left free at the start of every array of atoms.
template <typename T>
std::string run_both(const std::vector<int64_t>& ptr, int64_t num_atoms, int64_t channels, int shift) {
  const int64_t num_crystals = static_cast<int64_t>(ptr.size()) - 1;
  const std::vector<T> atoms = dtnn::cases::integers<T>(6 * num_atoms * channels + shift);
  const std::vector<T> grad = dtnn::cases::integers<T>(9 * num_crystals);
  const T* const values = atoms.data() + shift;
  std::vector<T> epsilon(9 * num_crystals);
  const char* error = readout(values, values, values, ptr.data(), epsilon.data(), num_atoms, channels, num_crystals);
  if (error != nullptr) return error;
  const std::string first = reported();
  std::vector<T> s(num_atoms * channels + shift), v(3 * num_atoms * channels + shift),
      t(6 * num_atoms * channels + shift);
  error = backward(grad.data(), values, ptr.data(), s.data() + shift, v.data() + shift, t.data() + shift, num_atoms,
                   channels, num_crystals);
  if (error != nullptr) return error;
  const std::string second = reported();
  if (first.empty() != second.empty()) return "only one of the two reported " + first + second;
  return first.empty() ? "" : "reported " + first;
}

}  // namespace

extern "C" {
const char* tensor_readout_f32(const float* scalar, const float* vector, const float* rank2, const int64_t* ptr,
                               float* epsilon, int64_t num_atoms, int64_t channels, int64_t num_crystals) {
  return readout(scalar, vector, rank2, ptr, epsilon, num_atoms, channels, num_crystals);
}
const char* tensor_readout_f64(const double* scalar, const double* vector, const double* rank2, const int64_t* ptr,
                               double* epsilon, int64_t num_atoms, int64_t channels, int64_t num_crystals) {
  return readout(scalar, vector, rank2, ptr, epsilon, num_atoms, channels, num_crystals);
}
const char* tensor_readout_backward_f32(const float* grad, const float* vector, const int64_t* ptr, float* grad_scalar,
                                        float* grad_vector, float* grad_rank2, int64_t num_atoms, int64_t channels,
                                        int64_t num_crystals) {
  return backward(grad, vector, ptr, grad_scalar, grad_vector, grad_rank2, num_atoms, channels, num_crystals);
}
const char* tensor_readout_backward_f64(const double* grad, const double* vector, const int64_t* ptr,
                                        double* grad_scalar, double* grad_vector, double* grad_rank2, int64_t num_atoms,
                                        int64_t channels, int64_t num_crystals) {
  return backward(grad, vector, ptr, grad_scalar, grad_vector, grad_rank2, num_atoms, channels, num_crystals);
}
}

DTNN_CASE(tensor_readout) {
  const std::vector<int64_t> sizes[] = {{0, 300}, {0, 1, 3, 4, 20, 21, 170, 171, 300}};
  for (const std::vector<int64_t>& ptr : sizes) {
    for (const int64_t channels : {0, 1, 3, 4, 32, 600}) {
      std::string error = run_both<float>(ptr, 300, channels, 0);
      if (error.empty()) error = run_both<double>(ptr, 300, channels, 0);
      if (error.empty()) error = run_both<float>(ptr, 300, channels, 1);
      if (!error.empty()) return error;
    }
  }
  const std::vector<int64_t> wrong[] = {{1, 300},         {0, 299},           {0, 301}, {0, kHuge}, {-kHuge, kHuge},
                                        {0, 50, 50, 300}, {0, 200, 100, 300}, {0, 0},   {9, 9, 9},  {0, -7, 300}};
  for (const std::vector<int64_t>& ptr : wrong) {
    const std::string error = run_both<float>(ptr, 300, 8, 0);
    if (error.rfind("reported tensor_readout: expected `ptr`", 0) != 0) return "ptr was not reported: " + error;
  }
  return "";
}
