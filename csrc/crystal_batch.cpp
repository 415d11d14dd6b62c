// SPDX-License-Identifier: MIT
#include "crystal_batch.h"

#include <cmath>
#include <string>

namespace dtnn {

void check_shared_or_per_crystal(const char* op, const char* name, const Tensor& tensor, int64_t num_crystals,
                                 bool matrix) {
  if (tensor.dim() == (matrix ? 2 : 1)) {
    if (matrix) {
      check_shape(op, name, tensor, "[3, 3] or [B, 3, 3]", {3, 3});
    } else {
      check_shape(op, name, tensor, "[3] or [B, 3]", {3});
    }
    return;
  }
  const std::string wanted = (matrix ? "[3, 3] or [B, 3, 3] with B = " : "[3] or [B, 3] with B = ") +
                             std::to_string(num_crystals) + " crystals";
  if (matrix) {
    check_shape(op, name, tensor, wanted.c_str(), {num_crystals, 3, 3});
  } else {
    check_shape(op, name, tensor, wanted.c_str(), {num_crystals, 3});
  }
}

CrystalBatch check_crystal_batch(const char* op, const Tensor& positions, const Tensor& cell, const OptionalTensor& ptr,
                                 double cutoff, const OptionalTensor& cutoffs) {
  check_floating(op, "positions", positions);
  check_shape(op, "positions", positions, "[N, 3]", {kAny, 3});
  check_same_dtype(op, "cell", cell, "positions", positions);
  check_same_device(op, "cell", cell, "positions", positions);
  int64_t num_crystals = 1;
  if (ptr) {
    check_dtype(op, "ptr", *ptr, ScalarType::Long);
    check_same_device(op, "ptr", *ptr, "positions", positions);
    DTNN_CHECK(ptr->dim() == 1 && ptr->size(0) >= 1, op, ": expected `ptr` of shape [B+1], got ", describe_shape(*ptr));
    num_crystals = ptr->size(0) - 1;
  }
  check_shared_or_per_crystal(op, "cell", cell, num_crystals, true);
  DTNN_CHECK(cutoff >= 0 && std::isfinite(cutoff), op, ": expected a finite `cutoff` of 0 or more, got ", cutoff);
  if (cutoffs) {
    DTNN_CHECK(cutoff == 0, op, ": expected one cutoff or `cutoffs` for each crystal, got both");
    check_dtype(op, "cutoff", *cutoffs, ScalarType::Double);
    check_same_device(op, "cutoff", *cutoffs, "positions", positions);
    const std::string wanted = "[B] with B = " + std::to_string(num_crystals) + " crystals";
    check_shape(op, "cutoff", *cutoffs, wanted.c_str(), {num_crystals});
  }
  return {torch::stable::contiguous(torch::stable::to(positions, ScalarType::Double)),
          torch::stable::contiguous(torch::stable::to(cell, ScalarType::Double)), contiguous(ptr), cutoff,
          contiguous(cutoffs)};
}

}  // namespace dtnn
