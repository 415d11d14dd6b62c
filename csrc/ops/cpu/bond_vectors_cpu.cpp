// SPDX-License-Identifier: MIT
#include <algorithm>
#include <atomic>
#include <vector>

#include "ops/bond_vectors.h"
#include "ops/cpu/large_pages.h"

namespace dtnn {
namespace {

enum class BondFault { kNone, kOutOfRange, kTwoCrystals };

// Finds the crystal of a bond; bonds of one crystal usually stand together, so the last answer is tried first.
class CrystalFinder {
 public:
  CrystalFinder(const int64_t* ptr, int64_t num_crystals, int64_t num_atoms)
      : ptr_(ptr), num_crystals_(num_crystals), num_atoms_(num_atoms) {}

  BondFault find(int64_t i, int64_t j) {
    if (i < first_ || i >= last_) {
      if (i < 0 || i >= num_atoms_) return BondFault::kOutOfRange;
      crystal_ = std::upper_bound(ptr_, ptr_ + num_crystals_ + 1, i) - ptr_ - 1;
      first_ = ptr_[crystal_];
      last_ = ptr_[crystal_ + 1];
    }
    if (j >= first_ && j < last_) return BondFault::kNone;
    return j < 0 || j >= num_atoms_ ? BondFault::kOutOfRange : BondFault::kTwoCrystals;
  }

  int64_t crystal() const { return crystal_; }

 private:
  const int64_t* ptr_;
  int64_t num_crystals_;
  int64_t num_atoms_;
  int64_t crystal_ = 0;
  int64_t first_ = 0;  // the atoms of the crystal; none before the first search
  int64_t last_ = 0;
};

void raise(const char* op, BondFault fault, int64_t num_atoms) {
  DTNN_CHECK(fault != BondFault::kOutOfRange, op, ": expected `pairs` with atoms in [0, ", num_atoms,
             "), got an index outside");
  DTNN_CHECK(fault != BondFault::kTwoCrystals, op,
             ": expected `pairs` with both ends in one crystal of `ptr`, got a bond between two");
}

// ptr, or [0, N] for one crystal; its values checked.
std::vector<int64_t> crystal_ptr(const char* op, const CrystalBonds& bonds) {
  if (!bonds.ptr.has_value()) return {0, bonds.num_atoms};
  const int64_t* ptr = bonds.ptr->const_data_ptr<int64_t>();
  check_ptr_values(op, ptr, bonds.num_cells, bonds.num_atoms);
  return {ptr, ptr + bonds.num_cells + 1};
}

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

// The bonds of crystal b as stored: first_bond[b]..first_bond[b+1], where bonds are grouped by crystal.
struct BondGroups {
  std::vector<int64_t> first_bond;
  bool grouped = true;
};

// Checks all bonds on the way, so that the threads that add need not.
BondGroups group_bonds(const CrystalBonds& bonds, const std::vector<int64_t>& ptr) {
  BondGroups groups;
  groups.first_bond.assign(bonds.num_cells + 1, 0);
  const int64_t* centers = bonds.pairs.const_data_ptr<int64_t>();
  const int64_t* neighbors = centers + bonds.num_bonds();
  CrystalFinder finder(ptr.data(), bonds.num_cells, bonds.num_atoms);
  int64_t current = -1;
  for (int64_t e = 0; e < bonds.num_bonds(); ++e) {
    raise("bond_vectors_backward", finder.find(centers[e], neighbors[e]), bonds.num_atoms);
    if (finder.crystal() < current) groups.grouped = false;
    while (current < finder.crystal()) groups.first_bond[++current] = e;
  }
  while (current < bonds.num_cells) groups.first_bond[++current] = bonds.num_bonds();
  return groups;
}

template <typename T>
void backward(const Tensor& grad, const CrystalBonds& bonds, Tensor& grad_positions, Tensor& grad_cell) {
  const std::vector<int64_t> ptr = crystal_ptr("bond_vectors_backward", bonds);
  const BondGroups groups = group_bonds(bonds, ptr);
  const T* grads = grad.const_data_ptr<T>();
  const int64_t* centers = bonds.pairs.const_data_ptr<int64_t>();
  const int64_t* neighbors = centers + bonds.num_bonds();
  const int32_t* shifts = bonds.shifts.const_data_ptr<int32_t>();
  T* atoms = grad_positions.mutable_data_ptr<T>();
  T* cells = grad_cell.mutable_data_ptr<T>();

  // One bond's share; `sums` are the nine of its cell.
  const auto add_bond = [&](int64_t e, double* sums) {
    const T* g = grads + 3 * e;
    T* center = atoms + 3 * centers[e];
    T* neighbor = atoms + 3 * neighbors[e];
    for (int k = 0; k < 3; ++k) neighbor[k] += g[k];
    for (int k = 0; k < 3; ++k) center[k] -= g[k];
    for (int s = 0; s < 3; ++s) {
      for (int k = 0; k < 3; ++k) sums[3 * s + k] += static_cast<double>(shifts[3 * e + s]) * g[k];
    }
  };
  const auto store = [&](int64_t crystal, const double* sums) {
    for (int k = 0; k < 9; ++k) cells[9 * crystal + k] = static_cast<T>(sums[k]);
  };

  if (groups.grouped) {
    const int64_t bonds_per_crystal = bonds.num_bonds() / std::max<int64_t>(1, bonds.num_cells);
    const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(1, bonds_per_crystal));
    torch::stable::parallel_for(0, bonds.num_cells, grain, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        double sums[9] = {};
        for (int64_t e = groups.first_bond[b]; e < groups.first_bond[b + 1]; ++e) add_bond(e, sums);
        store(b, sums);
      }
    });
    return;
  }
  std::vector<double> sums(9 * bonds.num_cells, 0.0);
  CrystalFinder finder(ptr.data(), bonds.num_cells, bonds.num_atoms);
  for (int64_t e = 0; e < bonds.num_bonds(); ++e) {
    finder.find(centers[e], neighbors[e]);
    add_bond(e, sums.data() + 9 * finder.crystal());
  }
  for (int64_t b = 0; b < bonds.num_cells; ++b) store(b, sums.data() + 9 * b);
}

}  // namespace

void bond_vectors_cpu(const Tensor& positions, const Tensor& cell, const CrystalBonds& bonds, Tensor& vectors) {
  advise_large_pages(vectors);
  if (positions.scalar_type() == ScalarType::Float) return forward<float>(positions, cell, bonds, vectors);
  return forward<double>(positions, cell, bonds, vectors);
}

void bond_vectors_backward_cpu(const Tensor& grad, const CrystalBonds& bonds, Tensor& grad_positions,
                               Tensor& grad_cell) {
  torch::stable::zero_(grad_positions);
  torch::stable::zero_(grad_cell);
  if (grad.scalar_type() == ScalarType::Float) return backward<float>(grad, bonds, grad_positions, grad_cell);
  return backward<double>(grad, bonds, grad_positions, grad_cell);
}

}  // namespace dtnn
