// SPDX-License-Identifier: MIT
// The gradients of the bonds, through the whole backward: with the sum of the hidden channels as the only message.
#include <cmath>

#include "message_cases.h"

DTNN_CASE(message_grads) {
  // One scalar, no vectors: new_scalar = scalar + envelope (bias + the sum of silu(weight (scalar, radial) + ...)).
  for (const int64_t hidden : {1, 16, 37, 130}) {
    dtnn::cases::MessageData<double> data(20, 12, 1, 0, 3, hidden, false);
    std::vector<std::vector<double>>& floats = data.floats;
    std::fill(floats[10].begin(), floats[10].end(), 1.0);
    for (double& weight : floats[8]) weight /= 64;
    const int64_t bonds = data.sizes[1];
    const std::vector<double> ones(bonds, 1.0);
    const double* const result_grads[5] = {ones.data(), nullptr, nullptr, nullptr, nullptr};
    std::vector<std::vector<double>> grads(floats.begin(), floats.begin() + 12);
    const char* const error =
        dtnn::cases::run_messages_backward<double>(data.sizes.data(), data.pointers().data(), data.indices().data(),
                                                   result_grads, dtnn::cases::pointers_to(grads).data(), 1, 1, 0);
    if (error != nullptr) return error;
    for (int64_t bond = 0; bond < bonds; ++bond) {
      double expected[4] = {1, 0, 0, 0};  // of the scalar and the radial functions
      for (int64_t h = 0; h < hidden; ++h) {
        const double* const weight = floats[8].data() + 4 * h;
        double x = floats[9][h] + weight[0] * floats[3][bond];
        for (int r = 0; r < 3; ++r) x += weight[1 + r] * floats[7][3 * bond + r];
        for (const int64_t atom : {data.bonds.pairs[bond], data.bonds.pairs[bonds + bond]}) {
          x += floats[2][atom * hidden + h];
        }
        const double scale = 1 / (1 + std::exp(-x)), slope = scale * (1 + x * (1 - scale));
        for (int k = 0; k < 4; ++k) expected[k] += floats[6][bond] * slope * weight[k];
      }
      const double found[4] = {grads[3][bond], grads[7][3 * bond], grads[7][3 * bond + 1], grads[7][3 * bond + 2]};
      for (int k = 0; k < 4; ++k) {
        if (std::abs(found[k] - expected[k]) > 1e-9 * (1 + std::abs(expected[k]))) return "wrong gradients";
      }
    }
  }
  return "";
}
