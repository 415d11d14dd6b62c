// SPDX-License-Identifier: MIT
#include "ops/neighbor_list.h"

#include <torch/csrc/stable/library.h>

#include <cmath>

namespace dtnn {
namespace {

constexpr const char* kOp = "neighbor_list";

// [trailing] for all crystals, or [B, trailing] for each its own.
void check_shared_or_each(const char* name, const Tensor& tensor, int64_t num_crystals, bool matrix) {
  if (tensor.dim() == (matrix ? 2 : 1)) {
    if (matrix) {
      check_shape(kOp, name, tensor, "[3, 3] or [B, 3, 3]", {3, 3});
    } else {
      check_shape(kOp, name, tensor, "[3] or [B, 3]", {3});
    }
    return;
  }
  const std::string wanted = (matrix ? "[3, 3] or [B, 3, 3] with B = " : "[3] or [B, 3] with B = ") +
                             std::to_string(num_crystals) + " crystals";
  if (matrix) {
    check_shape(kOp, name, tensor, wanted.c_str(), {num_crystals, 3, 3});
  } else {
    check_shape(kOp, name, tensor, wanted.c_str(), {num_crystals, 3});
  }
}

NeighborListArguments check(const Tensor& positions, const Tensor& cell, const Tensor& pbc,
                            const std::optional<Tensor>& ptr, double cutoff, const std::optional<Tensor>& cutoffs,
                            bool half, bool self_pairs) {
  check_floating(kOp, "positions", positions);
  check_shape(kOp, "positions", positions, "[N, 3]", {kAny, 3});
  check_same_dtype(kOp, "cell", cell, "positions", positions);
  check_same_device(kOp, "cell", cell, "positions", positions);
  check_dtype(kOp, "pbc", pbc, ScalarType::Bool);
  check_same_device(kOp, "pbc", pbc, "positions", positions);
  int64_t num_crystals = 1;
  if (ptr) {
    check_dtype(kOp, "ptr", *ptr, ScalarType::Long);
    check_same_device(kOp, "ptr", *ptr, "positions", positions);
    DTNN_CHECK(ptr->dim() == 1 && ptr->size(0) >= 1, kOp, ": expected `ptr` of shape [B+1], got ",
               describe_shape(*ptr));
    num_crystals = ptr->size(0) - 1;
  }
  check_shared_or_each("cell", cell, num_crystals, true);
  check_shared_or_each("pbc", pbc, num_crystals, false);
  DTNN_CHECK(cutoff >= 0 && std::isfinite(cutoff), kOp, ": expected a finite `cutoff` of 0 or more, got ", cutoff);
  if (cutoffs) {
    DTNN_CHECK(cutoff == 0, kOp, ": expected one cutoff or `cutoffs` for each crystal, got both");
    check_dtype(kOp, "cutoff", *cutoffs, ScalarType::Double);
    check_same_device(kOp, "cutoff", *cutoffs, "positions", positions);
    const std::string wanted = "[B] with B = " + std::to_string(num_crystals) + " crystals";
    check_shape(kOp, "cutoff", *cutoffs, wanted.c_str(), {num_crystals});
  }
  const auto contiguous = [](const std::optional<Tensor>& tensor) {
    return tensor ? std::optional<Tensor>(torch::stable::contiguous(*tensor)) : std::nullopt;
  };
  return {torch::stable::contiguous(torch::stable::to(positions, ScalarType::Double)),
          torch::stable::contiguous(torch::stable::to(cell, ScalarType::Double)),
          torch::stable::contiguous(pbc),
          contiguous(ptr),
          cutoff,
          contiguous(cutoffs),
          half,
          self_pairs};
}

// The op on one device.
template <NeighborListTensors (*kernel)(const NeighborListArguments&)>
NeighborListTensors run(const Tensor& positions, const Tensor& cell, const Tensor& pbc,
                        const std::optional<Tensor>& ptr, double cutoff, const std::optional<Tensor>& cutoffs,
                        bool half, bool self_pairs) {
  return kernel(check(positions, cell, pbc, ptr, cutoff, cutoffs, half, self_pairs));
}

}  // namespace
}  // namespace dtnn

STABLE_TORCH_LIBRARY_FRAGMENT(dtnn_fast, library) {
  library.def(
      "neighbor_list(Tensor positions, Tensor cell, Tensor pbc, Tensor? ptr, float cutoff, Tensor? cutoffs, bool half, "
      "bool self_pairs) -> (Tensor pairs, Tensor shifts, Tensor row_ptr)");
}
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, CPU, library) {
  library.impl("neighbor_list", TORCH_BOX(&dtnn::run<dtnn::neighbor_list_cpu>));
}
