// SPDX-License-Identifier: MIT
#include <cmath>

#include "message_cases.h"

namespace {

using dtnn::cases::reported;

// Scalars without a perceptron: new_scalar = scalar + envelope * bias, and their sums.
template <typename T>
std::string check(const int64_t (&shape)[6], bool turned, int64_t bad_bond = -1) {
  dtnn::cases::MessageData<T> data(shape[0], static_cast<int>(shape[1]), shape[2], shape[3], shape[4], shape[5],
                                   turned);
  const int64_t e = data.sizes[1], c = data.sizes[2];
  if (bad_bond >= 0) data.bonds.pairs[e + bad_bond] = data.sizes[0];
  auto results = data.like_results();
  const char* const error = dtnn::cases::run_messages<T>(
      data.sizes.data(), data.pointers().data(), data.indices().data(), dtnn::cases::pointers_to(results).data(), 0);
  if (error != nullptr) return error;
  if (reported().empty() != (bad_bond < 0)) return "wrong report of bad indices";
  std::vector<T> scalar(e * c), sum(data.sizes[0] * c, T(0));
  for (int64_t bond = 0; bond < e; ++bond) {
    for (int64_t k = 0; k < c; ++k) {
      const T message = data.floats[6][bond] * data.floats[11][k];
      scalar[bond * c + k] = bond == bad_bond ? T(NAN) : data.floats[3][bond * c + k] + message;
      for (const int64_t atom : {data.bonds.pairs[bond], data.bonds.pairs[e + bond]}) {
        if (atom < data.sizes[0]) sum[atom * c + k] += (turned ? 2 : 1) * scalar[bond * c + k];
      }
    }
  }
  if (!dtnn::cases::equal(results[0], scalar)) return "wrong scalars";
  if (bad_bond < 0 && !dtnn::cases::equal(results[2], sum)) return "wrong sums";
  return "";
}

}  // namespace

#define BOND_MESSAGES(T, suffix)                                                                                  \
  const char* bond_messages_##suffix(const int64_t* sizes, const T* const* floats, const int64_t* const* indices, \
                                     T* const* results, int64_t precision) {                                      \
    return dtnn::cases::run_messages<T>(sizes, floats, indices, results, precision);                              \
  }
extern "C" {
BOND_MESSAGES(float, f32)
BOND_MESSAGES(double, f64)
}

DTNN_CASE(bond_messages) {
  for (const auto& shape : dtnn::cases::kMessageShapes) {
    for (const bool turned : {false, true}) {
      std::string error = check<float>(shape, turned);
      if (error.empty()) error = check<double>(shape, turned);
      if (!error.empty()) return error;
    }
  }
  return check<float>(dtnn::cases::kMessageShapes[3], false, 5);
}
