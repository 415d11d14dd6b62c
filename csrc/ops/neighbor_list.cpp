// SPDX-License-Identifier: MIT
#include "ops/neighbor_list.h"

#include <torch/csrc/stable/library.h>

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
                            const std::optional<Tensor>& ptr, double cutoff, bool half) {
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
  return {torch::stable::contiguous(torch::stable::to(positions, ScalarType::Double)),
          torch::stable::contiguous(torch::stable::to(cell, ScalarType::Double)),
          torch::stable::contiguous(pbc),
          ptr ? std::optional<Tensor>(torch::stable::contiguous(*ptr)) : std::nullopt,
          cutoff,
          half};
}

NeighborListTensors on_cpu(const Tensor& positions, const Tensor& cell, const Tensor& pbc,
                           const std::optional<Tensor>& ptr, double cutoff, bool half) {
  return neighbor_list_cpu(check(positions, cell, pbc, ptr, cutoff, half));
}

}  // namespace
}  // namespace dtnn

STABLE_TORCH_LIBRARY_FRAGMENT(dtnn_fast, library) {
  library.def(
      "neighbor_list(Tensor positions, Tensor cell, Tensor pbc, Tensor? ptr, float cutoff, bool half) "
      "-> (Tensor pairs, Tensor shifts, Tensor row_ptr)");
}
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, CPU, library) { library.impl("neighbor_list", TORCH_BOX(&dtnn::on_cpu)); }
