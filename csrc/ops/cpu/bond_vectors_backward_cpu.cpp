// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "ops/bond_vectors.h"
#include "ops/cpu/crystal_finder.h"

namespace dtnn {
namespace {

constexpr const char* kOp = "bond_vectors_backward";
// Bonds that a thread checks or adds at a time, and the smallest size of a partial sum. A crystal has few partial sums,
// because each needs its own memory.
constexpr int64_t kBondsAtATime = 32768, kMaxPartialSums = 16;

struct BondArrays {
  const int64_t* centers;
  const int64_t* neighbors;
  const int32_t* shifts;
  int64_t num_bonds;

  explicit BondArrays(const CrystalBonds& bonds)
      : centers(bonds.pairs.const_data_ptr<int64_t>()),
        neighbors(centers + bonds.num_bonds()),
        shifts(bonds.shifts.const_data_ptr<int32_t>()),
        num_bonds(bonds.num_bonds()) {}
};

// What one pass over kBondsAtATime bonds finds out.
struct BondChunk {
  BondFault fault = BondFault::kNone;
  bool ascending = true;   // the crystals
  int64_t first_atom = 0;  // the atoms that the bonds touch
  int64_t last_atom = 0;
};

// The bonds of crystal b as stored: first_bond[b]..first_bond[b+1], where bonds are grouped by crystal.
// Atomic, since chunks may disagree about a crystal where bonds are not grouped.
struct BondGroups {
  std::vector<std::atomic<int64_t>> first_bond;
  std::vector<BondChunk> chunks;
  bool grouped = true;

  BondGroups(int64_t num_crystals, int64_t num_bonds)
      : first_bond(num_crystals + 1), chunks((num_bonds + kBondsAtATime - 1) / kBondsAtATime) {
    for (std::atomic<int64_t>& first : first_bond) first.store(num_bonds, std::memory_order_relaxed);
  }
  int64_t first(int64_t crystal) const { return first_bond[crystal].load(std::memory_order_relaxed); }
};

// Checks all bonds on the way, so that the threads that add need not.
BondGroups group_bonds(const BondArrays& arrays, const CrystalBonds& bonds, const std::vector<int64_t>& ptr) {
  BondGroups groups(bonds.num_cells, arrays.num_bonds);
  const int64_t num_chunks = static_cast<int64_t>(groups.chunks.size());
  torch::stable::parallel_for(0, num_chunks, 1, [&](int64_t first_chunk, int64_t last_chunk) {
    CrystalFinder finder(ptr.data(), bonds.num_cells, bonds.num_atoms);
    for (int64_t p = first_chunk; p < last_chunk; ++p) {
      const int64_t begin = p * kBondsAtATime, end = std::min(begin + kBondsAtATime, arrays.num_bonds);
      int64_t current = -1;
      // The crystal of the bond before; where that bond is bad, its own chunk reports it.
      if (begin > 0 && finder.find(arrays.centers[begin - 1], arrays.neighbors[begin - 1]) == BondFault::kNone) {
        current = finder.crystal();
      }
      BondChunk chunk;
      int64_t low = bonds.num_atoms, high = -1;
      for (int64_t e = begin; e < end && chunk.fault == BondFault::kNone; ++e) {
        const int64_t i = arrays.centers[e], j = arrays.neighbors[e];
        chunk.fault = finder.find(i, j);
        if (finder.crystal() < current) chunk.ascending = false;
        while (current < finder.crystal()) groups.first_bond[++current].store(e, std::memory_order_relaxed);
        low = std::min(low, std::min(i, j));
        high = std::max(high, std::max(i, j));
      }
      chunk.first_atom = low;
      chunk.last_atom = high + 1;
      groups.chunks[p] = chunk;
    }
  });
  for (const BondChunk& chunk : groups.chunks) {
    raise(kOp, chunk.fault, bonds.num_atoms);
    groups.grouped = groups.grouped && chunk.ascending;
  }
  return groups;
}

using CellSums = std::array<double, 9>;

// Adds the bonds first..last; `atoms` is where atom 0 would stand.
template <typename T>
void add_bonds(const BondArrays& bonds, const T* grads, int64_t first, int64_t last, T* atoms, CellSums& sums) {
  for (int64_t e = first; e < last; ++e) {
    const T* g = grads + 3 * e;
    T* center = atoms + 3 * bonds.centers[e];
    T* neighbor = atoms + 3 * bonds.neighbors[e];
    for (int k = 0; k < 3; ++k) neighbor[k] += g[k];
    for (int k = 0; k < 3; ++k) center[k] -= g[k];
    for (int s = 0; s < 3; ++s) {
      for (int k = 0; k < 3; ++k) sums[3 * s + k] += static_cast<double>(bonds.shifts[3 * e + s]) * g[k];
    }
  }
}

// The sums over a range of the bonds of one crystal. Where a crystal has several ranges, each has its own sums for the
// atoms that its bonds touch.
template <typename T>
struct PartialSum {
  int64_t crystal = 0;
  int64_t first_bond = 0;
  int64_t last_bond = 0;
  bool whole_crystal = true;
  int64_t first_atom = 0;
  int64_t last_atom = 0;
  std::unique_ptr<T[]> atoms;
  CellSums sums{};

  void add(const BondArrays& bonds, const T* grads, T* grad_positions) {
    if (whole_crystal) return add_bonds(bonds, grads, first_bond, last_bond, grad_positions, sums);
    atoms = std::make_unique<T[]>(static_cast<size_t>(3 * (last_atom - first_atom)));
    // Where atom 0 would stand: as an integer, since a pointer may not leave its array.
    const uintptr_t atom_zero = reinterpret_cast<uintptr_t>(atoms.get()) - sizeof(T) * 3 * first_atom;
    add_bonds(bonds, grads, first_bond, last_bond, reinterpret_cast<T*>(atom_zero), sums);
  }

  // Adds the sums of the atoms first..last.
  void add_to(T* grad_positions, int64_t first, int64_t last) const {
    const int64_t begin = std::max(first, first_atom), end = std::min(last, last_atom);
    for (int64_t p = 3 * begin; p < 3 * end; ++p) grad_positions[p] += atoms[p - 3 * first_atom];
  }
};

// The ranges follow from the bonds alone, never from the number of threads.
template <typename T>
std::vector<PartialSum<T>> make_partial_sums(const BondGroups& groups, const std::vector<int64_t>& ptr) {
  const int64_t num_crystals = static_cast<int64_t>(ptr.size()) - 1;
  std::vector<PartialSum<T>> partial_sums;
  for (int64_t b = 0; b < num_crystals; ++b) {
    const int64_t first = groups.first(b), num_bonds = groups.first(b + 1) - first;
    const int64_t num_partial_sums = std::clamp<int64_t>(num_bonds / kBondsAtATime, 1, kMaxPartialSums);
    for (int64_t p = 0; p < num_partial_sums; ++p) {
      PartialSum<T>& partial_sum = partial_sums.emplace_back();
      partial_sum.crystal = b;
      partial_sum.first_bond = first + p * num_bonds / num_partial_sums;
      partial_sum.last_bond = first + (p + 1) * num_bonds / num_partial_sums;
      partial_sum.whole_crystal = num_partial_sums == 1;
      if (partial_sum.whole_crystal) continue;
      partial_sum.first_atom = ptr[b + 1];
      partial_sum.last_atom = ptr[b];
      for (int64_t q = partial_sum.first_bond / kBondsAtATime; q * kBondsAtATime < partial_sum.last_bond; ++q) {
        partial_sum.first_atom = std::min(partial_sum.first_atom, std::max(ptr[b], groups.chunks[q].first_atom));
        partial_sum.last_atom = std::max(partial_sum.last_atom, std::min(ptr[b + 1], groups.chunks[q].last_atom));
      }
    }
  }
  return partial_sums;
}

template <typename T>
void backward(const Tensor& grad, const CrystalBonds& bonds, Tensor& grad_positions, Tensor& grad_cell) {
  const std::vector<int64_t> ptr = crystal_ptr(kOp, bonds);
  const BondArrays arrays(bonds);
  const BondGroups groups = group_bonds(arrays, bonds, ptr);
  const T* grads = grad.const_data_ptr<T>();
  T* atoms = grad_positions.mutable_data_ptr<T>();
  T* cells = grad_cell.mutable_data_ptr<T>();
  std::vector<CellSums> sums(bonds.num_cells, CellSums{});

  if (groups.grouped) {
    std::vector<PartialSum<T>> partial_sums = make_partial_sums<T>(groups, ptr);
    const int64_t num_partial_sums = static_cast<int64_t>(partial_sums.size());
    const int64_t bonds_per_sum = arrays.num_bonds / std::max<int64_t>(1, num_partial_sums);
    const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(1, bonds_per_sum));
    torch::stable::parallel_for(0, num_partial_sums, grain, [&](int64_t first, int64_t last) {
      for (int64_t p = first; p < last; ++p) partial_sums[p].add(arrays, grads, atoms);
    });
    if (num_partial_sums > bonds.num_cells) {
      torch::stable::parallel_for(0, bonds.num_atoms, 8192, [&](int64_t first, int64_t last) {
        for (const PartialSum<T>& partial_sum : partial_sums) {
          if (!partial_sum.whole_crystal) partial_sum.add_to(atoms, first, last);
        }
      });
    }
    for (const PartialSum<T>& partial_sum : partial_sums) {
      for (int k = 0; k < 9; ++k) sums[partial_sum.crystal][k] += partial_sum.sums[k];
    }
  } else {
    CrystalFinder finder(ptr.data(), bonds.num_cells, bonds.num_atoms);
    for (int64_t e = 0; e < arrays.num_bonds; ++e) {
      finder.find(arrays.centers[e], arrays.neighbors[e]);
      add_bonds(arrays, grads, e, e + 1, atoms, sums[finder.crystal()]);
    }
  }
  for (int64_t b = 0; b < bonds.num_cells; ++b) {
    for (int k = 0; k < 9; ++k) cells[9 * b + k] = static_cast<T>(sums[b][k]);
  }
}

}  // namespace

void bond_vectors_backward_cpu(const Tensor& grad, const CrystalBonds& bonds, Tensor& grad_positions,
                               Tensor& grad_cell) {
  torch::stable::zero_(grad_positions);  // bonds are added to it; grad_cell is written whole
  if (grad.scalar_type() == ScalarType::Float) return backward<float>(grad, bonds, grad_positions, grad_cell);
  return backward<double>(grad, bonds, grad_positions, grad_cell);
}

}  // namespace dtnn
