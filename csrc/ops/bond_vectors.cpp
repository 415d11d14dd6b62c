// SPDX-License-Identifier: MIT
#include "ops/bond_vectors.h"

#include <string>
#include <tuple>

#include "registration.h"
#include "sorted_bonds.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"
#endif

namespace dtnn {

CrystalBonds check_crystal_bonds(const char* op, const char* values_name, const Tensor& values, const Tensor& pairs,
                                 const Tensor& shifts, const OptionalTensor& ptr, int64_t num_atoms,
                                 int64_t num_cells) {
  check_pairs(op, pairs, values_name, values);
  check_shifts(op, shifts, pairs.size(1), values_name, values);
  CrystalBonds bonds{
      torch::stable::contiguous(pairs), torch::stable::contiguous(shifts), {}, num_atoms, num_cells, {}, {}, {}};
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

void check_bond_order(const char* op, const char* values_name, const Tensor& values, CrystalBonds& bonds,
                      const OptionalTensor& row_ptr, const OptionalTensor& neighbor_order,
                      const OptionalTensor& neighbor_row_ptr) {
  DTNN_CHECK(neighbor_order.has_value() == neighbor_row_ptr.has_value() &&
                 (row_ptr.has_value() || !neighbor_order.has_value()),
             op, ": expected `neighbor_order` and `neighbor_row_ptr` both or not at all, and with `row_ptr`");
  const auto check = [&](const char* name, const OptionalTensor& index, const char* shape, int64_t size) {
    if (!index.has_value()) return OptionalTensor();
    check_dtype(op, name, *index, ScalarType::Long);
    const std::string wanted = shape + std::to_string(size);
    check_shape(op, name, *index, wanted.c_str(), {size});
    check_same_device(op, name, *index, values_name, values);
    return OptionalTensor(torch::stable::contiguous(*index));
  };
  bonds.row_ptr = check("row_ptr", row_ptr, "[N+1] with N+1 = ", bonds.num_atoms + 1);
  bonds.neighbor_order = check("neighbor_order", neighbor_order, "[E] with E = ", bonds.num_bonds());
  bonds.neighbor_row_ptr = check("neighbor_row_ptr", neighbor_row_ptr, "[N+1] with N+1 = ", bonds.num_atoms + 1);
}

void check_ptr_values(const char* op, const int64_t* ptr, int64_t num_crystals, int64_t num_atoms) {
  DTNN_CHECK(ptr[0] == 0 && ptr[num_crystals] == num_atoms, op, ": expected `ptr` from 0 to the number of atoms, ",
             num_atoms, ", got ", ptr[0], " to ", ptr[num_crystals]);
  for (int64_t b = 0; b < num_crystals; ++b) {
    DTNN_CHECK(ptr[b] <= ptr[b + 1], op, ": expected `ptr` in ascending order, got ", ptr[b + 1], " after ", ptr[b]);
  }
}

namespace {

using Forward = void (*)(const Tensor&, const Tensor&, const CrystalBonds&, Tensor&);
using Backward = void (*)(const Tensor&, const CrystalBonds&, Tensor&, Tensor&);

template <Forward kernel>
Tensor vectors_on(const Tensor& positions, const Tensor& cell, const Tensor& pairs, const Tensor& shifts,
                  const OptionalTensor& ptr, const OptionalTensor& row_ptr, const OptionalTensor& order,
                  const OptionalTensor& order_ptr) {
  const char* op = "bond_vectors";
  check_floating(op, "positions", positions);
  check_shape(op, "positions", positions, "[N, 3]", {kAny, 3});
  check_same_dtype(op, "cell", cell, "positions", positions);
  check_same_device(op, "cell", cell, "positions", positions);
  check_shape(op, "cell", cell, "[B, 3, 3] or [3, 3]", {kAny, 3, 3});
  CrystalBonds bonds =
      check_crystal_bonds(op, "positions", positions, pairs, shifts, ptr, positions.size(0), cell.size(0));
  check_bond_order(op, "positions", positions, bonds, row_ptr, order, order_ptr);
  Tensor vectors = torch::stable::new_empty(positions, {bonds.num_bonds(), 3});
  kernel(torch::stable::contiguous(positions), torch::stable::contiguous(cell), bonds, vectors);
  return vectors;
}

template <Backward kernel>
std::tuple<Tensor, Tensor> backward_on(const Tensor& grad, const Tensor& pairs, const Tensor& shifts,
                                       const OptionalTensor& ptr, int64_t num_atoms, int64_t num_cells,
                                       const OptionalTensor& row_ptr, const OptionalTensor& order,
                                       const OptionalTensor& order_ptr) {
  const char* op = "bond_vectors_backward";
  check_floating(op, "grad", grad);
  DTNN_CHECK(num_atoms >= 0 && num_cells >= 0, op, ": expected counts of 0 or more, got ", num_atoms, " and ",
             num_cells);
  CrystalBonds bonds = check_crystal_bonds(op, "grad", grad, pairs, shifts, ptr, num_atoms, num_cells);
  check_bond_order(op, "grad", grad, bonds, row_ptr, order, order_ptr);
  const std::string wanted = "[E, 3] with E = " + std::to_string(bonds.num_bonds()) + " as in `pairs`";
  check_shape(op, "grad", grad, wanted.c_str(), {bonds.num_bonds(), 3});
  Tensor grad_positions = torch::stable::new_empty(grad, {num_atoms, 3});
  Tensor grad_cell = torch::stable::new_empty(grad, {num_cells, 3, 3});
  kernel(torch::stable::contiguous(grad), bonds, grad_positions, grad_cell);
  return {grad_positions, grad_cell};
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "bond_vectors(Tensor positions, Tensor cell, Tensor pairs, Tensor shifts, Tensor? ptr, Tensor? row_ptr=None, "
      "Tensor? neighbor_order=None, Tensor? neighbor_row_ptr=None) -> Tensor");
  // The counts are symbolic: under torch.compile they are sizes of the batch.
  library.def(
      "bond_vectors_backward(Tensor grad, Tensor pairs, Tensor shifts, Tensor? ptr, SymInt num_atoms, "
      "SymInt num_cells, Tensor? row_ptr=None, Tensor? neighbor_order=None, Tensor? neighbor_row_ptr=None) "
      "-> (Tensor, Tensor)");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("bond_vectors", TORCH_BOX(&dtnn::vectors_on<dtnn::bond_vectors_cpu>));
  library.impl("bond_vectors_backward", TORCH_BOX(&dtnn::backward_on<dtnn::bond_vectors_backward_cpu>));
}
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("bond_vectors", TORCH_BOX(&dtnn::vectors_on<dtnn::bond_vectors_cuda>));
  library.impl("bond_vectors_backward", TORCH_BOX(&dtnn::backward_on<dtnn::bond_vectors_backward_cuda>));
}
#endif
