// SPDX-License-Identifier: MIT
#include "ops/reduce_bonds.h"

#include <cmath>

#include "registration.h"

namespace dtnn {
namespace {

ReducedTensors run(const Tensor& positions, const Tensor& cell, const Tensor& ptr, const Tensor& pairs,
                   const Tensor& bond_shifts, const Tensor& row_ptr, bool half, const Tensor& rotations,
                   const Tensor& operation_ptr, const Tensor& atoms, const Tensor& shifts,
                   std::vector<double> cutoffs) {
  const char* op = "reduce_bonds";
  const CrystalOperations crystals = check_crystal_operations(op, positions, cell, ptr, rotations, operation_ptr);
  const SortedBonds bonds = check_sorted_bonds(op, pairs, bond_shifts, row_ptr, "positions", positions);
  DTNN_CHECK(bonds.num_atoms() == crystals.num_atoms(), op,
             ": expected `row_ptr` of shape [N+1] with N = ", crystals.num_atoms(), " as in `positions`, got ",
             describe_shape(row_ptr));
  check_dtype(op, "atoms", atoms, ScalarType::Int);
  check_same_device(op, "atoms", atoms, "positions", positions);
  check_shape(op, "atoms", atoms, "[M]", {kAny});
  check_dtype(op, "shifts", shifts, ScalarType::Int);
  check_same_device(op, "shifts", shifts, "positions", positions);
  check_shape(op, "shifts", shifts, "[M, 3], as many rows as `atoms`", {atoms.size(0), 3});
  DTNN_CHECK(!cutoffs.empty(), op, ": expected at least one cutoff in `cutoffs`, got none");
  for (size_t k = 0; k < cutoffs.size(); ++k)
    DTNN_CHECK(std::isfinite(cutoffs[k]) && cutoffs[k] > (k ? cutoffs[k - 1] : 0.0), op,
               ": expected finite `cutoffs` above 0 from short to long, got ", cutoffs[k]);
  const SortedBonds on_host{on_cpu(bonds.pairs), on_cpu(bonds.shifts), on_cpu(bonds.row_ptr)};
  ReducedTensors result = reduce_bonds_cpu(crystals, on_host, half, on_cpu(atoms), on_cpu(shifts), cutoffs);
  if (!positions.is_cuda()) return result;
  return std::apply(
      [&](const auto&... tensors) { return ReducedTensors(torch::stable::to(tensors, positions.device())...); },
      result);
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "reduce_bonds(Tensor positions, Tensor cell, Tensor ptr, Tensor pairs, Tensor bond_shifts, Tensor row_ptr, "
      "bool half, Tensor rotations, Tensor operation_ptr, Tensor atoms, Tensor shifts, float[] cutoffs) -> "
      "(Tensor stored, Tensor weight, Tensor stored_ptr, Tensor projector, Tensor site_vector, "
      "Tensor site_rank2, Tensor pairs, Tensor bond_shifts, Tensor row_ptr, Tensor level, Tensor vectors, "
      "Tensor rotation, Tensor counts)");
}
DTNN_LIBRARY_IMPL(CPU, library) { library.impl("reduce_bonds", TORCH_BOX(&dtnn::run)); }
DTNN_LIBRARY_IMPL(CUDA, library) { library.impl("reduce_bonds", TORCH_BOX(&dtnn::run)); }
