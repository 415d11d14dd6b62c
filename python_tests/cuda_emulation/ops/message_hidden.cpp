// SPDX-License-Identifier: MIT
// The first half of bond_messages, through the whole: with the sum of the hidden channels as the only output.
#include <cmath>

#include "message_cases.h"

DTNN_CASE(message_hidden) {
  // One scalar, no vectors: its message is the sum of the hidden channels, silu(weight (scalar, radial) + ...).
  for (const int64_t hidden : {1, 16, 37, 130}) {
    dtnn::cases::MessageData<double> data(20, 12, 1, 0, 3, hidden, false);
    std::vector<std::vector<double>>& floats = data.floats;
    std::fill(floats[10].begin(), floats[10].end(), 1.0);
    for (double& weight : floats[8]) weight /= 64;
    auto results = data.like_results();
    const char* const error = dtnn::cases::run_messages<double>(
        data.sizes.data(), data.pointers().data(), data.indices().data(), dtnn::cases::pointers_to(results).data(), 0);
    if (error != nullptr) return error;
    for (int64_t bond = 0; bond < data.sizes[1]; ++bond) {
      double sum = floats[11][0];
      for (int64_t h = 0; h < hidden; ++h) {
        double x = floats[9][h] + floats[8][4 * h] * floats[3][bond];
        for (int r = 0; r < 3; ++r) x += floats[8][4 * h + 1 + r] * floats[7][3 * bond + r];
        for (const int64_t atom : {data.bonds.pairs[bond], data.bonds.pairs[data.sizes[1] + bond]}) {
          x += floats[2][atom * hidden + h];
        }
        sum += x / (1 + std::exp(-x));
      }
      const double expected = floats[3][bond] + floats[6][bond] * sum;
      if (std::abs(results[0][bond] - expected) > 1e-9 * (1 + std::abs(expected))) return "wrong hidden channels";
    }
  }
  return "";
}
