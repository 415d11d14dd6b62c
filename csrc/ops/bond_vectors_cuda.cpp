// SPDX-License-Identifier: MIT
// The torch side of the CUDA kernels of bond_vectors: temporaries, streams, and the order of bonds where none is given.
#ifdef DTNN_WITH_CUDA
#include <array>
#include <utility>

#include "cuda_stream.h"
#include "ops/bond_vectors.h"
#include "ops/cuda/bond_vectors.h"
#include "ops/cuda/row_starts.h"

namespace dtnn {
namespace {

using torch::stable::detail::from;
using torch::stable::detail::to;

// Keys in ascending order, and where each stood; equal ones keep their order.
std::pair<Tensor, Tensor> stable_sort(const Tensor& keys) {
  std::array<StableIValue, 4> stack{from(keys), from(std::optional<bool>(true)), from(int64_t{0}), from(false)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {to<Tensor>(stack[0]), to<Tensor>(stack[1])};
}

Tensor reordered(const Tensor& values, int64_t dim, const Tensor& order) {
  std::array<StableIValue, 3> stack{from(values), from(dim), from(order)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::index_select", "", stack.data(), TORCH_ABI_VERSION));
  return to<Tensor>(stack[0]);
}

Tensor row_starts(const Tensor& keys, int64_t num_rows, void* stream) {
  Tensor row_ptr = torch::stable::new_empty(keys, {num_rows + 1});
  check_launch("bond_vectors_backward", cuda::launch_row_starts(keys.const_data_ptr<int64_t>(), keys.size(0),
                                                                row_ptr.mutable_data_ptr<int64_t>(), num_rows, stream));
  return row_ptr;
}

// Fills in what the caller has not given. Everything stays on the device, and nothing waits for it.
void sort_bonds(Tensor& grad, CrystalBonds& bonds, void* stream) {
  if (!bonds.row_ptr.has_value()) {
    const auto [centers, order] = stable_sort(torch::stable::select(bonds.pairs, 0, 0));
    grad = reordered(grad, 0, order);
    bonds.pairs = reordered(bonds.pairs, 1, order);
    bonds.shifts = reordered(bonds.shifts, 0, order);
    bonds.row_ptr = row_starts(centers, bonds.num_atoms, stream);
  }
  if (!bonds.neighbor_order.has_value()) {
    const auto [neighbors, order] = stable_sort(torch::stable::select(bonds.pairs, 0, 1));
    bonds.neighbor_order = order;
    bonds.neighbor_row_ptr = row_starts(neighbors, bonds.num_atoms, stream);
  }
}

// Faults that no kernel reports, because without atoms or crystals it reads nothing.
void check_counts(const char* op, const CrystalBonds& bonds) {
  DTNN_CHECK(bonds.num_cells > 0 || bonds.num_atoms == 0, op, ": expected `ptr` from 0 to the number of atoms, ",
             bonds.num_atoms, ", got one number for 0 crystals");
  DTNN_CHECK(bonds.num_atoms > 0 || bonds.num_bonds() == 0, op,
             ": expected `pairs` with atoms in [0, 0), got an index outside");
}

template <typename T>
const char* launch(const Tensor& positions, const Tensor& cell, const CrystalBonds& bonds, Tensor& vectors,
                   void* stream) {
  const cuda::BondVectorsArgs<T> args{positions.const_data_ptr<T>(),
                                      cell.const_data_ptr<T>(),
                                      bonds.pairs.const_data_ptr<int64_t>(),
                                      bonds.shifts.const_data_ptr<int32_t>(),
                                      data_or_null<int64_t>(bonds.ptr),
                                      vectors.mutable_data_ptr<T>(),
                                      bonds.num_atoms,
                                      bonds.num_cells,
                                      bonds.num_bonds(),
                                      error_sink("bond_vectors", positions)};
  return cuda::launch_bond_vectors(args, stream);
}

template <typename T>
const char* launch_backward(const Tensor& grad, const CrystalBonds& bonds, Tensor& grad_positions, Tensor& grad_cell,
                            void* stream) {
  Tensor workspace =
      torch::stable::new_empty(grad, {cuda::bond_vectors_workspace(bonds.num_bonds())}, ScalarType::Byte);
  const cuda::BondVectorsBackwardArgs<T> args{grad.const_data_ptr<T>(),
                                              bonds.pairs.const_data_ptr<int64_t>(),
                                              bonds.shifts.const_data_ptr<int32_t>(),
                                              data_or_null<int64_t>(bonds.ptr),
                                              data_or_null<int64_t>(bonds.row_ptr),
                                              data_or_null<int64_t>(bonds.neighbor_order),
                                              data_or_null<int64_t>(bonds.neighbor_row_ptr),
                                              grad_positions.mutable_data_ptr<T>(),
                                              grad_cell.mutable_data_ptr<T>(),
                                              workspace.mutable_data_ptr(),
                                              bonds.num_atoms,
                                              bonds.num_cells,
                                              bonds.num_bonds(),
                                              error_sink("bond_vectors_backward", grad)};
  return cuda::launch_bond_vectors_backward(args, stream);
}

}  // namespace

void bond_vectors_cuda(const Tensor& positions, const Tensor& cell, const CrystalBonds& bonds, Tensor& vectors) {
  const char* op = "bond_vectors";
  check_counts(op, bonds);
  const OnDeviceOf device(positions);
  void* const stream = current_cuda_stream(op, positions);
  const char* const error = positions.scalar_type() == ScalarType::Float
                                ? launch<float>(positions, cell, bonds, vectors, stream)
                                : launch<double>(positions, cell, bonds, vectors, stream);
  check_launch(op, error, positions, stream);
}

void bond_vectors_backward_cuda(const Tensor& given_grad, const CrystalBonds& given_bonds, Tensor& grad_positions,
                                Tensor& grad_cell) {
  const char* op = "bond_vectors_backward";
  check_counts(op, given_bonds);
  const OnDeviceOf device(given_grad);
  void* const stream = current_cuda_stream(op, given_grad);
  Tensor grad = given_grad;
  CrystalBonds bonds = given_bonds;
  sort_bonds(grad, bonds, stream);
  const char* const error = grad.scalar_type() == ScalarType::Float
                                ? launch_backward<float>(grad, bonds, grad_positions, grad_cell, stream)
                                : launch_backward<double>(grad, bonds, grad_positions, grad_cell, stream);
  check_launch(op, error, grad, stream);
}

}  // namespace dtnn
#endif
