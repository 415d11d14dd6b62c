// SPDX-License-Identifier: MIT
#include "neighbor_cases.h"

// Crystals that are large enough for bins, beside small ones; in some directions shorter than the cutoff.
DTNN_CASE(neighbor_grid) {
  for (const bool half : {false, true}) {
    const dtnn::cases::BoxBatch cubes({520, 2, 600}, {12, 14, 13}, 3);
    std::string error = dtnn::cases::check_box_batch(cubes, 2.0, half, true, 1);
    if (!error.empty()) return "cubes: " + error;
    const dtnn::cases::BoxBatch wires({5, 540, 530, 512}, {2, 150, 1.5}, 4);
    error = dtnn::cases::check_box_batch(wires, 2.5, half, true, 0);
    if (!error.empty()) return "wires: " + error;
  }
  return "";
}
