// SPDX-License-Identifier: MIT
#include "bond_to_atom_sum.h"

#include <functional>

#include "bond_ends_cases.h"

namespace {

using dtnn::cases::arrays_of;
using dtnn::cases::BondArrays;
using dtnn::cases::Bonds;
using dtnn::cases::reported;

template <typename T>
const char* run(const T* values, const BondArrays& bonds, T* out, int64_t width, int64_t center, int64_t neighbor) {
  return dtnn::cases::run_bond_ends<T>("bond_to_atom_sum", dtnn::cuda::launch_bond_to_atom_sum, values, bonds, out,
                                       width, center, neighbor);
}

template <typename T>
std::string check(const Bonds& bonds, int64_t width, int center, int neighbor, int shift = 0) {
  const dtnn::cases::ShiftedValues<T> memory(bonds.num_bonds, width, shift);
  const T* const values = memory.data();
  std::vector<T> out(bonds.num_atoms * width, T(1e9)), expected(out.size(), T(0));
  for (int64_t bond = 0; bond < bonds.num_bonds; ++bond) {
    const int64_t i = bonds.pairs[bond], j = bonds.pairs[bonds.num_bonds + bond];
    for (int64_t p = 0; p < width; ++p) {
      expected[i * width + p] += center * values[bond * width + p];
      expected[j * width + p] += neighbor * values[bond * width + p];
    }
  }
  const char* const error = run<T>(values, arrays_of(bonds), out.data(), width, center, neighbor);
  if (error != nullptr) return error;
  if (!reported().empty()) return "good indices were reported as bad";
  return out == expected ? "" : "wrong sum for width " + std::to_string(width);
}

// Index arrays with mistakes: nothing outside of a buffer may be touched, and the first mistake is reported.
std::string check_bad(const std::function<void(Bonds&)>& spoil) {
  for (const int64_t width : {1, 8, 300}) {
    Bonds bonds(90, 12, 3);
    spoil(bonds);
    const std::vector<float> values = dtnn::cases::integers<float>(bonds.num_bonds * width);
    std::vector<float> out(bonds.num_atoms * width);
    const char* const error = run<float>(values.data(), arrays_of(bonds), out.data(), width, -1, 1);
    if (error != nullptr) return error;
    if (reported().rfind("bond_to_atom_sum: expected `", 0) != 0) return "a bad index was not reported";
  }
  return "";
}

}  // namespace

#define DTNN_SUM_FUNCTION(suffix, T)                                                                                   \
  extern "C" const char* bond_to_atom_sum_##suffix(const T* values, const int64_t* pairs, const int64_t* row_ptr,      \
                                                   const int64_t* order, const int64_t* neighbor_row_ptr, T* out,      \
                                                   int64_t num_atoms, int64_t num_bonds, int64_t width,                \
                                                   int64_t center, int64_t neighbor) {                                 \
    return run(values, {pairs, row_ptr, order, neighbor_row_ptr, num_atoms, num_bonds}, out, width, center, neighbor); \
  }
DTNN_SUM_FUNCTION(f32, float)
DTNN_SUM_FUNCTION(f64, double)
DTNN_SUM_FUNCTION(f16, dtnn::cuda::Float16)
DTNN_SUM_FUNCTION(bf16, dtnn::cuda::BFloat16)

DTNN_CASE(bond_to_atom_sum) {
  for (const int max_degree : {0, 5, 100}) {
    const Bonds bonds(61, max_degree, 1);
    for (const int64_t width : {1, 2, 3, 5, 7, 8, 33, 96, 260}) {
      for (const int sign : {-1, 0, 1}) {
        std::string error = check<float>(bonds, width, sign, 1);
        if (error.empty()) error = check<double>(bonds, width, sign, 1);
        if (error.empty()) error = check<float>(bonds, width, 1, 0, 1);
        if (!error.empty()) return error;
      }
    }
  }
  // Rows enough for the kernel of wide rows.
  const Bonds many(2100, 3, 4);
  const std::string error = check<float>(many, 128, -1, 1);
  if (!error.empty()) return error;
  const std::function<void(Bonds&)> mistakes[] = {
      [](Bonds& b) { b.row_ptr[0] = 1; },
      [](Bonds& b) { b.row_ptr[b.num_atoms] += 5; },
      [](Bonds& b) { b.row_ptr[17] = int64_t{1} << 60; },
      [](Bonds& b) { b.row_ptr[20] = -(int64_t{1} << 60); },
      [](Bonds& b) { b.pairs[3] += 1; },
      [](Bonds& b) { b.neighbor_row_ptr[16] = -1; },
      [](Bonds& b) { b.neighbor_row_ptr[b.num_atoms] = int64_t{1} << 62; },
      [](Bonds& b) { b.neighbor_order[11] = b.num_bonds; },
      [](Bonds& b) { b.neighbor_order[9] = -7; },
      [](Bonds& b) { b.pairs[b.num_bonds + 40] = int64_t{1} << 40; },
      [](Bonds& b) { b.pairs.assign(b.pairs.size(), -1); },
      [](Bonds& b) { b.row_ptr.assign(b.row_ptr.size(), -1); },
      [](Bonds& b) { b.neighbor_order.assign(b.neighbor_order.size(), b.num_bonds + 3); },
  };
  for (const auto& spoil : mistakes) {
    const std::string mistake = check_bad(spoil);
    if (!mistake.empty()) return mistake;
  }
  return "";
}
