// SPDX-License-Identifier: MIT
#include "bond_vectors.h"

#include <functional>

#include "cases.h"

namespace {

using dtnn::cases::Bonds;
using dtnn::cases::reported;

constexpr int64_t kHuge = int64_t{1} << 60;

template <typename T>
const char* vectors(const T* positions, const T* cell, const int64_t* pairs, const int32_t* shifts, const int64_t* ptr,
                    T* out, int64_t num_atoms, int64_t num_cells, int64_t num_bonds) {
  const dtnn::cuda::BondVectorsArgs<T> args{
      positions, cell, pairs, shifts, ptr, out, num_atoms, num_cells, num_bonds, dtnn::cases::errors("bond_vectors")};
  return dtnn::cuda::launch_bond_vectors(args, nullptr);
}

template <typename T>
const char* backward(const T* grad, const int64_t* pairs, const int32_t* shifts, const int64_t* ptr,
                     const int64_t* row_ptr, const int64_t* order, const int64_t* order_ptr, T* grad_positions,
                     T* grad_cell, int64_t num_atoms, int64_t num_cells, int64_t num_bonds) {
  std::vector<char> workspace(dtnn::cuda::bond_vectors_workspace(num_bonds));
  const dtnn::cuda::BondVectorsBackwardArgs<T> args{grad,      pairs,
                                                    shifts,    ptr,
                                                    row_ptr,   order,
                                                    order_ptr, grad_positions,
                                                    grad_cell, workspace.data(),
                                                    num_atoms, num_cells,
                                                    num_bonds, dtnn::cases::errors("bond_vectors_backward")};
  return dtnn::cuda::launch_bond_vectors_backward(args, nullptr);
}

// Both kernels over bonds of 13 crystals; `spoil` puts mistakes into the index arrays.
std::string run_both(int max_degree, const std::function<void(Bonds&, std::vector<int64_t>&)>& spoil) {
  Bonds bonds(130, max_degree, 5);
  std::vector<int64_t> ptr;
  for (int64_t b = 0; b <= 13; ++b) ptr.push_back(10 * b);
  for (int64_t e = 0; e < bonds.num_bonds; ++e) {  // both ends in one crystal
    bonds.pairs[bonds.num_bonds + e] = bonds.pairs[e] / 10 * 10 + bonds.pairs[bonds.num_bonds + e] % 10;
  }
  bonds.sort_by_neighbor();
  spoil(bonds, ptr);
  const std::vector<double> positions = dtnn::cases::integers<double>(3 * 130), cell(9 * 13, 1.0);
  const std::vector<double> grad = dtnn::cases::integers<double>(3 * bonds.num_bonds);
  const std::vector<int32_t> shifts(3 * bonds.num_bonds, 2);
  std::vector<double> out(3 * bonds.num_bonds), grad_positions(3 * 130), grad_cell(9 * 13);
  const char* error = vectors(positions.data(), cell.data(), bonds.pairs.data(), shifts.data(), ptr.data(), out.data(),
                              130, 13, bonds.num_bonds);
  if (error != nullptr) return error;
  const std::string first = reported();
  error = backward(grad.data(), bonds.pairs.data(), shifts.data(), ptr.data(), bonds.row_ptr.data(),
                   bonds.neighbor_order.data(), bonds.neighbor_row_ptr.data(), grad_positions.data(), grad_cell.data(),
                   130, 13, bonds.num_bonds);
  if (error != nullptr) return error;
  const std::string second = reported();
  return first.empty() && second.empty() ? "" : "reported " + first + second;
}

}  // namespace

extern "C" {
const char* bond_vectors_f32(const float* positions, const float* cell, const int64_t* pairs, const int32_t* shifts,
                             const int64_t* ptr, float* out, int64_t num_atoms, int64_t num_cells, int64_t num_bonds) {
  return vectors(positions, cell, pairs, shifts, ptr, out, num_atoms, num_cells, num_bonds);
}
const char* bond_vectors_f64(const double* positions, const double* cell, const int64_t* pairs, const int32_t* shifts,
                             const int64_t* ptr, double* out, int64_t num_atoms, int64_t num_cells, int64_t num_bonds) {
  return vectors(positions, cell, pairs, shifts, ptr, out, num_atoms, num_cells, num_bonds);
}
const char* bond_vectors_backward_f32(const float* grad, const int64_t* pairs, const int32_t* shifts,
                                      const int64_t* ptr, const int64_t* row_ptr, const int64_t* order,
                                      const int64_t* order_ptr, float* grad_positions, float* grad_cell,
                                      int64_t num_atoms, int64_t num_cells, int64_t num_bonds) {
  return backward(grad, pairs, shifts, ptr, row_ptr, order, order_ptr, grad_positions, grad_cell, num_atoms, num_cells,
                  num_bonds);
}
const char* bond_vectors_backward_f64(const double* grad, const int64_t* pairs, const int32_t* shifts,
                                      const int64_t* ptr, const int64_t* row_ptr, const int64_t* order,
                                      const int64_t* order_ptr, double* grad_positions, double* grad_cell,
                                      int64_t num_atoms, int64_t num_cells, int64_t num_bonds) {
  return backward(grad, pairs, shifts, ptr, row_ptr, order, order_ptr, grad_positions, grad_cell, num_atoms, num_cells,
                  num_bonds);
}
}

DTNN_CASE(bond_vectors) {
  for (const int max_degree : {0, 3, 40}) {
    const std::string error = run_both(max_degree, [](Bonds&, std::vector<int64_t>&) {});
    if (!error.empty()) return error;
  }
  const std::function<void(Bonds&, std::vector<int64_t>&)> mistakes[] = {
      [](Bonds& b, std::vector<int64_t>&) { b.pairs[7] = kHuge; },
      [](Bonds& b, std::vector<int64_t>&) { b.pairs[b.num_bonds + 7] = -kHuge; },
      [](Bonds&, std::vector<int64_t>& ptr) { ptr[0] = -kHuge; },
      [](Bonds&, std::vector<int64_t>& ptr) { ptr[13] = kHuge; },
      [](Bonds&, std::vector<int64_t>& ptr) { ptr[5] = kHuge, ptr[6] = -kHuge; },
      [](Bonds&, std::vector<int64_t>& ptr) { ptr.assign(14, -1); },
      [](Bonds&, std::vector<int64_t>& ptr) { ptr.assign(14, kHuge); },
      [](Bonds& b, std::vector<int64_t>&) { b.row_ptr.assign(131, kHuge); },
      [](Bonds& b, std::vector<int64_t>&) { b.row_ptr.assign(131, -kHuge); },
      [](Bonds& b, std::vector<int64_t>&) { std::reverse(b.row_ptr.begin(), b.row_ptr.end()); },
  };
  for (const auto& spoil : mistakes) {
    const std::string error = run_both(20, spoil);
    if (error.rfind("reported bond_vectors", 0) != 0) return "a bad index was not reported: " + error;
  }
  return "";
}
