// SPDX-License-Identifier: MIT
#include "cases.h"
#include "launchers.h"

namespace {

template <typename T>
const char* run(const T* values, const int64_t* pairs, T* out, int64_t num_bonds, int64_t width, int64_t center,
                int64_t neighbor) {
  const dtnn::cuda::AtomToBondGatherArgs<T> args{
      values, pairs, out, num_bonds, width, static_cast<int>(center), static_cast<int>(neighbor)};
  return dtnn::cuda::launch_atom_to_bond_gather(args, nullptr);
}

// `shift` numbers are left free at the start of the values, so that their address is not a multiple of 16.
template <typename T>
std::string check(const dtnn::cases::Bonds& bonds, int64_t width, int center, int neighbor, int shift = 0) {
  const std::vector<T> buffer = dtnn::cases::integers<T>(bonds.num_atoms * width + shift);
  const T* const values = buffer.data() + shift;
  std::vector<T> out(bonds.num_bonds * width, T(1e9)), expected;
  for (int64_t bond = 0; bond < bonds.num_bonds; ++bond) {
    const int64_t i = bonds.pairs[bond], j = bonds.pairs[bonds.num_bonds + bond];
    for (int64_t p = 0; p < width; ++p) {
      expected.push_back(center * values[i * width + p] + neighbor * values[j * width + p]);
    }
  }
  const char* const error = run(values, bonds.pairs.data(), out.data(), bonds.num_bonds, width, center, neighbor);
  if (error != nullptr) return error;
  return out == expected ? "" : "wrong gather for width " + std::to_string(width);
}

}  // namespace

extern "C" {
const char* atom_to_bond_gather_f32(const float* values, const int64_t* pairs, float* out, int64_t num_bonds,
                                    int64_t width, int64_t center, int64_t neighbor) {
  return run(values, pairs, out, num_bonds, width, center, neighbor);
}
const char* atom_to_bond_gather_f64(const double* values, const int64_t* pairs, double* out, int64_t num_bonds,
                                    int64_t width, int64_t center, int64_t neighbor) {
  return run(values, pairs, out, num_bonds, width, center, neighbor);
}
}

DTNN_CASE(atom_to_bond_gather) {
  for (const int max_degree : {0, 5, 30}) {
    const dtnn::cases::Bonds bonds(61, max_degree, 2);
    for (const int64_t width : {1, 2, 3, 5, 8, 33, 96, 1030}) {
      for (const int sign : {-1, 0, 1}) {
        std::string error = check<float>(bonds, width, sign, 1);
        if (error.empty()) error = check<double>(bonds, width, 1, sign);
        if (error.empty()) error = check<float>(bonds, width, 1, sign, 1);
        if (!error.empty()) return error;
      }
    }
  }
  return "";
}
