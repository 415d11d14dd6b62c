// SPDX-License-Identifier: MIT
#include "cases.h"
#include "launchers.h"

namespace {

template <typename T>
const char* run(const T* values, const int64_t* row_ptr, const int64_t* order, const int64_t* neighbor_row_ptr, T* out,
                int64_t num_atoms, int64_t width, int64_t center, int64_t neighbor) {
  const dtnn::cuda::BondToAtomSumArgs<T> args{values,
                                              row_ptr,
                                              order,
                                              neighbor_row_ptr,
                                              out,
                                              num_atoms,
                                              width,
                                              static_cast<int>(center),
                                              static_cast<int>(neighbor)};
  return dtnn::cuda::launch_bond_to_atom_sum(args, nullptr);
}

// `shift` numbers are left free at the start of the values, so that their address is not a multiple of 16.
template <typename T>
std::string check(const dtnn::cases::Bonds& bonds, int64_t width, int center, int neighbor, int shift = 0) {
  const std::vector<T> buffer = dtnn::cases::integers<T>(bonds.num_bonds * width + shift);
  const T* const values = buffer.data() + shift;
  std::vector<T> out(bonds.num_atoms * width, T(1e9)), expected(out.size(), T(0));
  for (int64_t bond = 0; bond < bonds.num_bonds; ++bond) {
    const int64_t i = bonds.pairs[bond], j = bonds.pairs[bonds.num_bonds + bond];
    for (int64_t p = 0; p < width; ++p) {
      expected[i * width + p] += center * values[bond * width + p];
      expected[j * width + p] += neighbor * values[bond * width + p];
    }
  }
  const char* const error = run(values, bonds.row_ptr.data(), bonds.neighbor_order.data(),
                                bonds.neighbor_row_ptr.data(), out.data(), bonds.num_atoms, width, center, neighbor);
  if (error != nullptr) return error;
  return out == expected ? "" : "wrong sum for width " + std::to_string(width);
}

}  // namespace

extern "C" {
const char* bond_to_atom_sum_f32(const float* values, const int64_t* row_ptr, const int64_t* order,
                                 const int64_t* neighbor_row_ptr, float* out, int64_t num_atoms, int64_t width,
                                 int64_t center, int64_t neighbor) {
  return run(values, row_ptr, order, neighbor_row_ptr, out, num_atoms, width, center, neighbor);
}
const char* bond_to_atom_sum_f64(const double* values, const int64_t* row_ptr, const int64_t* order,
                                 const int64_t* neighbor_row_ptr, double* out, int64_t num_atoms, int64_t width,
                                 int64_t center, int64_t neighbor) {
  return run(values, row_ptr, order, neighbor_row_ptr, out, num_atoms, width, center, neighbor);
}
}

DTNN_CASE(bond_to_atom_sum) {
  for (const int max_degree : {0, 5, 100}) {
    const dtnn::cases::Bonds bonds(61, max_degree, 1);
    for (const int64_t width : {1, 2, 3, 5, 7, 8, 33, 96, 260}) {
      for (const int sign : {-1, 0, 1}) {
        std::string error = check<float>(bonds, width, sign, 1);
        if (error.empty()) error = check<double>(bonds, width, sign, 1);
        if (error.empty()) error = check<float>(bonds, width, 1, 0, 1);
        if (!error.empty()) return error;
      }
    }
  }
  return "";
}
