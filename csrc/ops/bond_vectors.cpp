// SPDX-License-Identifier: MIT
#include "ops/bond_vectors.h"

#include <torch/csrc/stable/library.h>

#include <string>
#include <tuple>

namespace dtnn {

CrystalBonds check_crystal_bonds(const char* op, const char* values_name, const Tensor& values, const Tensor& pairs,
                                 const Tensor& shifts, const std::optional<Tensor>& ptr, int64_t num_atoms,
                                 int64_t num_cells) {
  check_dtype(op, "pairs", pairs, ScalarType::Long);
  check_shape(op, "pairs", pairs, "[2, E]", {2, kAny});
  check_same_device(op, "pairs", pairs, values_name, values);
  check_dtype(op, "shifts", shifts, ScalarType::Int);
  const std::string wanted = "[E, 3] with E = " + std::to_string(pairs.size(1)) + " as in `pairs`";
  check_shape(op, "shifts", shifts, wanted.c_str(), {pairs.size(1), 3});
  check_same_device(op, "shifts", shifts, values_name, values);
  CrystalBonds bonds{torch::stable::contiguous(pairs), torch::stable::contiguous(shifts), {}, num_atoms, num_cells};
  if (!ptr.has_value()) {
    DTNN_CHECK(num_cells == 1, op, ": expected `ptr` for ", num_cells, " crystals, got none");
    return bonds;
  }
  check_dtype(op, "ptr", *ptr, ScalarType::Long);
  const std::string sizes = "[B+1] with B = " + std::to_string(num_cells) + " as in `cell`";
  check_shape(op, "ptr", *ptr, sizes.c_str(), {num_cells + 1});
  check_same_device(op, "ptr", *ptr, values_name, values);
  bonds.ptr = torch::stable::contiguous(*ptr);
  return bonds;
}

void check_ptr_values(const char* op, const int64_t* ptr, int64_t num_crystals, int64_t num_atoms) {
  DTNN_CHECK(ptr[0] == 0 && ptr[num_crystals] == num_atoms, op, ": expected `ptr` from 0 to the number of atoms, ",
             num_atoms, ", got ", ptr[0], " to ", ptr[num_crystals]);
  for (int64_t b = 0; b < num_crystals; ++b) {
    DTNN_CHECK(ptr[b] <= ptr[b + 1], op, ": expected `ptr` in ascending order, got ", ptr[b + 1], " after ", ptr[b]);
  }
}

namespace {

using OptionalTensor = std::optional<Tensor>;

Tensor vectors_on_cpu(const Tensor& positions, const Tensor& cell, const Tensor& pairs, const Tensor& shifts,
                      const OptionalTensor& ptr) {
  const char* op = "bond_vectors";
  check_floating(op, "positions", positions);
  check_shape(op, "positions", positions, "[N, 3]", {kAny, 3});
  check_same_dtype(op, "cell", cell, "positions", positions);
  check_same_device(op, "cell", cell, "positions", positions);
  check_shape(op, "cell", cell, "[B, 3, 3] or [3, 3]", {kAny, 3, 3});
  const CrystalBonds bonds =
      check_crystal_bonds(op, "positions", positions, pairs, shifts, ptr, positions.size(0), cell.size(0));
  Tensor vectors = torch::stable::new_empty(positions, {bonds.num_bonds(), 3});
  bond_vectors_cpu(torch::stable::contiguous(positions), torch::stable::contiguous(cell), bonds, vectors);
  return vectors;
}

std::tuple<Tensor, Tensor> backward_on_cpu(const Tensor& grad, const Tensor& pairs, const Tensor& shifts,
                                           const OptionalTensor& ptr, int64_t num_atoms, int64_t num_cells) {
  const char* op = "bond_vectors_backward";
  check_floating(op, "grad", grad);
  DTNN_CHECK(num_atoms >= 0 && num_cells >= 0, op, ": expected counts of 0 or more, got ", num_atoms, " and ",
             num_cells);
  const CrystalBonds bonds = check_crystal_bonds(op, "grad", grad, pairs, shifts, ptr, num_atoms, num_cells);
  const std::string wanted = "[E, 3] with E = " + std::to_string(bonds.num_bonds()) + " as in `pairs`";
  check_shape(op, "grad", grad, wanted.c_str(), {bonds.num_bonds(), 3});
  Tensor grad_positions = torch::stable::new_zeros(grad, {num_atoms, 3});
  Tensor grad_cell = torch::stable::new_zeros(grad, {num_cells, 3, 3});
  bond_vectors_backward_cpu(torch::stable::contiguous(grad), bonds, grad_positions, grad_cell);
  return {grad_positions, grad_cell};
}

}  // namespace
}  // namespace dtnn

STABLE_TORCH_LIBRARY_FRAGMENT(dtnn_fast, library) {
  library.def("bond_vectors(Tensor positions, Tensor cell, Tensor pairs, Tensor shifts, Tensor? ptr) -> Tensor");
  // The counts are symbolic: under torch.compile they are sizes of the batch.
  library.def(
      "bond_vectors_backward(Tensor grad, Tensor pairs, Tensor shifts, Tensor? ptr, SymInt num_atoms, "
      "SymInt num_cells) -> (Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, CPU, library) {
  library.impl("bond_vectors", TORCH_BOX(&dtnn::vectors_on_cpu));
  library.impl("bond_vectors_backward", TORCH_BOX(&dtnn::backward_on_cpu));
}
