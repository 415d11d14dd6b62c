// SPDX-License-Identifier: MIT
#include "ops/symmetrise_crystals.h"

#include <cmath>

#include "registration.h"

namespace dtnn {
namespace {

// Below, rounding of the positions decides. Angstrom
constexpr double kSmallestTolerance = 1e-9;

SymmetrisedTensors run(const Tensor& positions, const Tensor& cell, const Tensor& ptr, const Tensor& atomic_numbers,
                       const Tensor& rotations, const Tensor& images, const Tensor& operation_ptr, double tolerance) {
  const char* op = "symmetrise_crystals";
  const CrystalOperations crystals = check_crystal_operations(op, positions, cell, ptr, rotations, operation_ptr);
  check_dtype(op, "atomic_numbers", atomic_numbers, ScalarType::Long);
  check_same_device(op, "atomic_numbers", atomic_numbers, "positions", positions);
  const std::string num_atoms = "[N] with N = " + std::to_string(crystals.num_atoms()) + " atoms";
  check_shape(op, "atomic_numbers", atomic_numbers, num_atoms.c_str(), {crystals.num_atoms()});
  check_dtype(op, "images", images, ScalarType::Long);
  check_same_device(op, "images", images, "positions", positions);
  const std::string num_operations = "[G] with G = " + std::to_string(crystals.num_operations()) + " operations";
  check_shape(op, "images", images, num_operations.c_str(), {crystals.num_operations()});
  DTNN_CHECK(tolerance >= kSmallestTolerance && std::isfinite(tolerance), op, ": expected a finite `tolerance` of ",
             kSmallestTolerance, " Angstrom or more, since positions are rounded, got ", tolerance);
  SymmetrisedTensors result = symmetrise_crystals_cpu(crystals, on_cpu(atomic_numbers), on_cpu(images), tolerance);
  if (!positions.is_cuda()) return result;
  return std::apply(
      [&](const auto&... tensors) { return SymmetrisedTensors(torch::stable::to(tensors, positions.device())...); },
      result);
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "symmetrise_crystals(Tensor positions, Tensor cell, Tensor ptr, Tensor atomic_numbers, Tensor rotations, "
      "Tensor images, Tensor operation_ptr, float tolerance) -> (Tensor positions, Tensor cell, Tensor atoms, "
      "Tensor shifts, Tensor displacement, Tensor strain, Tensor faults)");
}
DTNN_LIBRARY_IMPL(CPU, library) { library.impl("symmetrise_crystals", TORCH_BOX(&dtnn::run)); }
DTNN_LIBRARY_IMPL(CUDA, library) { library.impl("symmetrise_crystals", TORCH_BOX(&dtnn::run)); }
