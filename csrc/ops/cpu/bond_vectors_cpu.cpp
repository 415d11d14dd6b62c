// SPDX-License-Identifier: MIT
#include <atomic>
#include <vector>

#include "ops/bond_vectors.h"
#include "ops/cpu/crystal_finder.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {
namespace {

template <typename T>
void forward(const Tensor& positions, const Tensor& cell, const CrystalBonds& bonds, Tensor& vectors) {
  const std::vector<int64_t> ptr = crystal_ptr("bond_vectors", bonds);
  const T* r = positions.const_data_ptr<T>();
  const T* cells = cell.const_data_ptr<T>();
  const int64_t* centers = bonds.pairs.const_data_ptr<int64_t>();
  const int64_t* neighbors = centers + bonds.num_bonds();
  const int32_t* shifts = bonds.shifts.const_data_ptr<int32_t>();
  T* out = vectors.mutable_data_ptr<T>();
  std::atomic<BondFault> fault{BondFault::kNone};  // a throw may not cross the thread pool
  torch::stable::parallel_for(0, bonds.num_bonds(), 8192, [&](int64_t first, int64_t last) {
    CrystalFinder finder(ptr.data(), bonds.num_cells, bonds.num_atoms);
    for (int64_t e = first; e < last; ++e) {
      const int64_t i = centers[e], j = neighbors[e];
      const BondFault found = finder.find(i, j);
      if (found != BondFault::kNone) {
        fault = found;
        return;
      }
      const T* abc = cells + 9 * finder.crystal();
      const T s0 = static_cast<T>(shifts[3 * e]), s1 = static_cast<T>(shifts[3 * e + 1]),
              s2 = static_cast<T>(shifts[3 * e + 2]);
      for (int k = 0; k < 3; ++k) {
        out[3 * e + k] = (r[3 * j + k] - r[3 * i + k]) + ((s0 * abc[k] + s1 * abc[3 + k]) + s2 * abc[6 + k]);
      }
    }
  });
  raise("bond_vectors", fault, bonds.num_atoms);
}

}  // namespace

void bond_vectors_cpu(const Tensor& positions, const Tensor& cell, const CrystalBonds& bonds, Tensor& vectors) {
  advise_large_pages(vectors);
  if (positions.scalar_type() == ScalarType::Float) return forward<float>(positions, cell, bonds, vectors);
  return forward<double>(positions, cell, bonds, vectors);
}

}  // namespace dtnn
