// SPDX-License-Identifier: MIT
#include "ops/bonds_within.h"

#include <torch/csrc/stable/library.h>

namespace dtnn {
namespace {

// The op on one device.
template <BondsWithinTensors (*kernel)(const CrystalBatch&, const SortedBonds&)>
BondsWithinTensors run(const Tensor& positions, const Tensor& cell, const std::optional<Tensor>& ptr,
                       const Tensor& pairs, const Tensor& shifts, const Tensor& row_ptr, double cutoff,
                       const std::optional<Tensor>& cutoffs) {
  const char* op = "bonds_within";
  const CrystalBatch batch = check_crystal_batch(op, positions, cell, ptr, cutoff, cutoffs);
  const SortedBonds bonds = check_sorted_bonds(op, pairs, shifts, row_ptr, "positions", positions);
  DTNN_CHECK(bonds.num_atoms() == batch.num_atoms(), op,
             ": expected `row_ptr` of shape [N+1] with N = ", batch.num_atoms(), " as in `positions`, got ",
             describe_shape(row_ptr));
  return kernel(batch, bonds);
}

}  // namespace
}  // namespace dtnn

STABLE_TORCH_LIBRARY_FRAGMENT(dtnn_fast, library) {
  library.def(
      "bonds_within(Tensor positions, Tensor cell, Tensor? ptr, Tensor pairs, Tensor shifts, Tensor row_ptr, "
      "float cutoff, Tensor? cutoffs) -> (Tensor kept, Tensor pairs, Tensor shifts, Tensor row_ptr)");
}
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, CPU, library) {
  library.impl("bonds_within", TORCH_BOX(&dtnn::run<dtnn::bonds_within_cpu>));
}
