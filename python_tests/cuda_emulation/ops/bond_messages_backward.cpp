// SPDX-License-Identifier: MIT
#include <cmath>

#include "message_cases.h"

namespace {

using dtnn::cases::reported;

// What does not pass through the perceptron: the gradients of the scalars, of the last bias at the scalars, and none of
// the features.
template <typename T>
std::string check(const int64_t (&shape)[6], bool turned, bool needed, int64_t bad_bond = -1) {
  dtnn::cases::MessageData<T> data(shape[0], static_cast<int>(shape[1]), shape[2], shape[3], shape[4], shape[5],
                                   turned);
  const int64_t e = data.sizes[1], c = data.sizes[2], outputs = c + 5 * data.sizes[3];
  if (bad_bond >= 0) data.bonds.pairs[bad_bond] = -3;
  auto result_grads = data.like_results();
  for (auto& grad : result_grads) grad = dtnn::cases::integers<T>(static_cast<int64_t>(grad.size()));
  std::vector<std::vector<T>> grads;
  for (size_t k = 0; k < 12; ++k) grads.emplace_back(k < 5 || needed ? data.floats[k].size() : 0, T(1e9));
  const std::vector<T*> grad_pointers = dtnn::cases::pointers_to(result_grads);
  const std::vector<const T*> result_pointers(grad_pointers.begin(), grad_pointers.end());
  const char* const error = dtnn::cases::run_messages_backward<T>(
      data.sizes.data(), data.pointers().data(), data.indices().data(), result_pointers.data(),
      dtnn::cases::pointers_to(grads).data(), needed, needed, 0);
  if (error != nullptr) return error;
  if (reported().empty() != (bad_bond < 0)) return "wrong report of bad indices";
  std::vector<T> scalar(e * c), bias(outputs, T(0));
  for (int64_t bond = 0; bond < e; ++bond) {
    for (int64_t k = 0; k < c; ++k) {
      T& grad = scalar[bond * c + k];
      grad = bond == bad_bond ? T(NAN) : result_grads[0][bond * c + k];
      for (const int64_t atom : {data.bonds.pairs[bond], data.bonds.pairs[e + bond]}) {
        if (bond != bad_bond) grad += (turned ? 2 : 1) * result_grads[2][atom * c + k];
      }
      bias[k] += data.floats[6][bond] * grad;
    }
  }
  if (!dtnn::cases::equal(grads[3], scalar)) return "wrong gradient of the scalars";
  if (!needed || bad_bond >= 0) return "";
  if (!std::equal(bias.begin(), bias.begin() + c, grads[11].begin())) return "wrong gradient of the bias";
  for (const size_t k : {size_t{2}, size_t{7}, size_t{8}, size_t{9}}) {
    if (std::any_of(grads[k].begin(), grads[k].end(), [](T grad) { return grad != 0; })) return "wrong zeros";
  }
  return "";
}

}  // namespace

#define BOND_MESSAGES_BACKWARD(T, suffix)                                                                        \
  const char* bond_messages_backward_##suffix(                                                                   \
      const int64_t* sizes, const T* const* floats, const int64_t* const* indices, const T* const* result_grads, \
      T* const* grads, int64_t need_geometry, int64_t need_weights, int64_t precision) {                         \
    return dtnn::cases::run_messages_backward<T>(sizes, floats, indices, result_grads, grads, need_geometry,     \
                                                 need_weights, precision);                                       \
  }
extern "C" {
BOND_MESSAGES_BACKWARD(float, f32)
BOND_MESSAGES_BACKWARD(double, f64)
}

DTNN_CASE(bond_messages_backward) {
  for (const auto& shape : dtnn::cases::kMessageShapes) {
    for (const bool turned : {false, true}) {
      for (const bool needed : {false, true}) {
        std::string error = check<float>(shape, turned, needed);
        if (error.empty()) error = check<double>(shape, turned, needed);
        if (!error.empty()) return error;
      }
    }
  }
  return check<float>(dtnn::cases::kMessageShapes[3], false, true, 5);
}
