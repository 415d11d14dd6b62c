// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/symmetry_operations.h"
#include "ops/cpu/list_kernels.h"
#include "ops/symmetrise_crystals.h"

namespace dtnn {

SymmetrisedTensors symmetrise_crystals_cpu(const CrystalOperations& crystals, const Tensor& atomic_numbers,
                                           const Tensor& images, double tolerance) {
  const OperationOffsets offsets = operation_offsets("symmetrise_crystals", crystals);
  const int64_t num_crystals = crystals.num_crystals(), num_rows = offsets.image[num_crystals];
  const auto empty = [&](std::initializer_list<int64_t> sizes, ScalarType type) {
    return torch::stable::empty(sizes, type, std::nullopt, crystals.positions.device());
  };
  Tensor positions = empty({crystals.num_atoms(), 3}, ScalarType::Double);
  Tensor cell = empty({num_crystals, 3, 3}, ScalarType::Double);
  Tensor atoms = empty({num_rows}, ScalarType::Int), shifts = empty({num_rows, 3}, ScalarType::Int);
  Tensor displacement = empty({num_crystals}, ScalarType::Double), strain = empty({num_crystals}, ScalarType::Double);
  Tensor faults = empty({num_crystals, 2}, ScalarType::Long);
  torch::stable::zero_(atoms);
  torch::stable::zero_(shifts);
  const double *given = crystals.positions.const_data_ptr<double>(), *cells = crystals.cell.const_data_ptr<double>();
  double *to = positions.mutable_data_ptr<double>(), *to_cell = cell.mutable_data_ptr<double>();
  double *to_displacement = displacement.mutable_data_ptr<double>(), *to_strain = strain.mutable_data_ptr<double>();
  int32_t *to_atoms = atoms.mutable_data_ptr<int32_t>(), *to_shifts = shifts.mutable_data_ptr<int32_t>();
  int64_t* to_faults = faults.mutable_data_ptr<int64_t>();
  const int64_t *numbers = atomic_numbers.const_data_ptr<int64_t>(), *image = images.const_data_ptr<int64_t>();
  const int32_t* rotations = crystals.rotations.const_data_ptr<int32_t>();
  for_each_task(torch_threads(), num_crystals, [&](int64_t b) {
    const int64_t atom = offsets.atom[b], operation = offsets.operation[b], row = offsets.image[b];
    const SymmetryArguments arguments{
        offsets.atom[b + 1] - atom,           given + 3 * atom,          cells + 9 * b,     numbers + atom,
        offsets.operation[b + 1] - operation, rotations + 9 * operation, image + operation, tolerance};
    SymmetryResult result{to + 3 * atom, to_cell + 9 * b, to_atoms + row, to_shifts + 3 * row};
    symmetrise(arguments, result);
    if (result.fault != SymmetryFault::kNone) {
      std::copy_n(arguments.positions, 3 * arguments.num_atoms, result.positions);
      std::copy_n(arguments.cell, 9, result.cell);
    }
    to_displacement[b] = result.displacement;
    to_strain[b] = result.strain;
    to_faults[2 * b] = static_cast<int64_t>(result.fault);
    to_faults[2 * b + 1] = result.detail;
  });
  return {positions, cell, atoms, shifts, displacement, strain, faults};
}

}  // namespace dtnn
