// SPDX-License-Identifier: MIT
#include "atom_to_bond_gather.h"

#include <cmath>

#include "bond_ends_cases.h"

namespace {

using dtnn::cases::reported;

template <typename T>
const char* run(const T* values, const dtnn::cases::BondArrays& bonds, T* out, int64_t width, int64_t center,
                int64_t neighbor) {
  return dtnn::cases::run_bond_ends<T>("atom_to_bond_gather", dtnn::cuda::launch_atom_to_bond_gather, values, bonds,
                                       out, width, center, neighbor);
}

// Every `bad_every`-th bond has an index that is out of range.
template <typename T>
std::string check(const dtnn::cases::Bonds& bonds, int64_t width, int center, int neighbor, int shift = 0,
                  int64_t bad_every = 0) {
  const dtnn::cases::ShiftedValues<T> memory(bonds.num_atoms, width, shift);
  const T* const values = memory.data();
  std::vector<int64_t> pairs = bonds.pairs;
  const auto is_bad = [&](int64_t bond) { return bad_every > 0 && bond % bad_every == 1; };
  std::vector<T> out(bonds.num_bonds * width, T(1e9)), expected;
  for (int64_t bond = 0; bond < bonds.num_bonds; ++bond) {
    const int64_t i = pairs[bond], j = pairs[bonds.num_bonds + bond];
    for (int64_t p = 0; p < width; ++p) {
      expected.push_back(is_bad(bond) ? T(NAN) : center * values[i * width + p] + neighbor * values[j * width + p]);
    }
    if (is_bad(bond)) pairs[bonds.num_bonds + bond] = bond % 2 == 0 ? bonds.num_atoms : -bond;
  }
  const char* const error = run<T>(values, {pairs.data(), nullptr, nullptr, nullptr, bonds.num_atoms, bonds.num_bonds},
                                   out.data(), width, center, neighbor);
  if (error != nullptr) return error;
  if (reported().empty() != (bad_every == 0 || bonds.num_bonds < 2)) return "wrong report of bad indices";
  return dtnn::cases::equal(out, expected) ? "" : "wrong gather for width " + std::to_string(width);
}

}  // namespace

#define DTNN_GATHER_FUNCTION(suffix, T)                                                                         \
  extern "C" const char* atom_to_bond_gather_##suffix(const T* values, const int64_t* pairs, T* out,            \
                                                      int64_t num_atoms, int64_t num_bonds, int64_t width,      \
                                                      int64_t center, int64_t neighbor) {                       \
    return run(values, {pairs, nullptr, nullptr, nullptr, num_atoms, num_bonds}, out, width, center, neighbor); \
  }
DTNN_GATHER_FUNCTION(f32, float)
DTNN_GATHER_FUNCTION(f64, double)
DTNN_GATHER_FUNCTION(f16, dtnn::cuda::Float16)
DTNN_GATHER_FUNCTION(bf16, dtnn::cuda::BFloat16)

DTNN_CASE(atom_to_bond_gather) {
  for (const int max_degree : {0, 5, 30}) {
    const dtnn::cases::Bonds bonds(61, max_degree, 2);
    for (const int64_t width : {1, 2, 3, 5, 8, 33, 96, 1030}) {
      for (const int sign : {-1, 0, 1}) {
        std::string error = check<float>(bonds, width, sign, 1);
        if (error.empty()) error = check<double>(bonds, width, 1, sign);
        if (error.empty()) error = check<float>(bonds, width, 1, sign, 1);
        if (error.empty()) error = check<float>(bonds, width, sign, 1, 0, 7);
        if (!error.empty()) return error;
      }
    }
  }
  return "";
}
