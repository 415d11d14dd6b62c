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

template <typename T>
std::string check(const dtnn::cases::Bonds& bonds, int64_t width, int center, int neighbor) {
  const std::vector<T> values = dtnn::cases::integers<T>(bonds.num_atoms * width);
  std::vector<T> out(static_cast<size_t>(bonds.num_bonds * width), T(1e9)), expected;
  for (size_t bond = 0; bond < static_cast<size_t>(bonds.num_bonds); ++bond) {
    for (int64_t p = 0; p < width; ++p) {
      const int64_t j = bonds.pairs[static_cast<size_t>(bonds.num_bonds) + bond];
      expected.push_back(static_cast<T>(center) * values[static_cast<size_t>(bonds.pairs[bond] * width + p)] +
                         static_cast<T>(neighbor) * values[static_cast<size_t>(j * width + p)]);
    }
  }
  const char* const error =
      run(values.data(), bonds.pairs.data(), out.data(), bonds.num_bonds, width, center, neighbor);
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
        if (!error.empty()) return error;
      }
    }
  }
  return "";
}
