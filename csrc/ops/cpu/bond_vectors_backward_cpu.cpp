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
// Bonds that a thread checks or adds at a time. A part of a crystal has at least as many; a crystal has at most
// kMostParts, because each has sums of its own.
constexpr int64_t kBondsAtATime = 32768, kMostParts = 16;

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

// What one pass over kBondsAtATime bonds finds.
struct Piece {
  BondFault fault = BondFault::kNone;
  bool ascending = true;   // the crystals
  int64_t first_atom = 0;  // the atoms that the bonds touch
  int64_t last_atom = 0;
};

// The bonds of crystal b as stored: first_bond[b]..first_bond[b+1], where bonds are grouped by crystal.
// Atomic, since pieces of bonds that are not grouped may disagree about a crystal.
struct BondGroups {
  std::vector<std::atomic<int64_t>> first_bond;
  std::vector<Piece> pieces;
  bool grouped = true;

  BondGroups(int64_t num_crystals, int64_t num_bonds)
      : first_bond(num_crystals + 1), pieces((num_bonds + kBondsAtATime - 1) / kBondsAtATime) {
    for (std::atomic<int64_t>& first : first_bond) first.store(num_bonds, std::memory_order_relaxed);
  }
  int64_t first(int64_t crystal) const { return first_bond[crystal].load(std::memory_order_relaxed); }
};

// Checks all bonds on the way, so that the threads that add need not.
BondGroups group_bonds(const BondArrays& arrays, const CrystalBonds& bonds, const std::vector<int64_t>& ptr) {
  BondGroups groups(bonds.num_cells, arrays.num_bonds);
  const int64_t num_pieces = static_cast<int64_t>(groups.pieces.size());
  torch::stable::parallel_for(0, num_pieces, 1, [&](int64_t first_piece, int64_t last_piece) {
    CrystalFinder finder(ptr.data(), bonds.num_cells, bonds.num_atoms);
    for (int64_t p = first_piece; p < last_piece; ++p) {
      const int64_t begin = p * kBondsAtATime, end = std::min(begin + kBondsAtATime, arrays.num_bonds);
      int64_t current = -1;
      // The crystal of the bond before; where that bond is at fault, its own piece says so.
      if (begin > 0 && finder.find(arrays.centers[begin - 1], arrays.neighbors[begin - 1]) == BondFault::kNone) {
        current = finder.crystal();
      }
      Piece piece;
      int64_t low = bonds.num_atoms, high = -1;
      for (int64_t e = begin; e < end && piece.fault == BondFault::kNone; ++e) {
        const int64_t i = arrays.centers[e], j = arrays.neighbors[e];
        piece.fault = finder.find(i, j);
        if (finder.crystal() < current) piece.ascending = false;
        while (current < finder.crystal()) groups.first_bond[++current].store(e, std::memory_order_relaxed);
        low = std::min(low, std::min(i, j));
        high = std::max(high, std::max(i, j));
      }
      piece.first_atom = low;
      piece.last_atom = high + 1;
      groups.pieces[p] = piece;
    }
  });
  for (const Piece& piece : groups.pieces) {
    raise(kOp, piece.fault, bonds.num_atoms);
    groups.grouped = groups.grouped && piece.ascending;
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

// A stretch of the bonds of one crystal. Where there are several, each has its own sums for the atoms that it touches.
template <typename T>
struct Part {
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

  // Adds what the part has for the atoms first..last.
  void add_to(T* grad_positions, int64_t first, int64_t last) const {
    const int64_t begin = std::max(first, first_atom), end = std::min(last, last_atom);
    for (int64_t p = 3 * begin; p < 3 * end; ++p) grad_positions[p] += atoms[p - 3 * first_atom];
  }
};

// The parts follow from the bonds alone, never from the number of threads.
template <typename T>
std::vector<Part<T>> parts_of(const BondGroups& groups, const std::vector<int64_t>& ptr) {
  const int64_t num_crystals = static_cast<int64_t>(ptr.size()) - 1;
  std::vector<Part<T>> parts;
  for (int64_t b = 0; b < num_crystals; ++b) {
    const int64_t first = groups.first(b), num_bonds = groups.first(b + 1) - first;
    const int64_t num_parts = std::clamp<int64_t>(num_bonds / kBondsAtATime, 1, kMostParts);
    for (int64_t p = 0; p < num_parts; ++p) {
      Part<T>& part = parts.emplace_back();
      part.crystal = b;
      part.first_bond = first + p * num_bonds / num_parts;
      part.last_bond = first + (p + 1) * num_bonds / num_parts;
      part.whole_crystal = num_parts == 1;
      if (part.whole_crystal) continue;
      part.first_atom = ptr[b + 1];
      part.last_atom = ptr[b];
      for (int64_t q = part.first_bond / kBondsAtATime; q * kBondsAtATime < part.last_bond; ++q) {
        part.first_atom = std::min(part.first_atom, std::max(ptr[b], groups.pieces[q].first_atom));
        part.last_atom = std::max(part.last_atom, std::min(ptr[b + 1], groups.pieces[q].last_atom));
      }
    }
  }
  return parts;
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
    std::vector<Part<T>> parts = parts_of<T>(groups, ptr);
    const int64_t num_parts = static_cast<int64_t>(parts.size());
    const int64_t bonds_per_part = arrays.num_bonds / std::max<int64_t>(1, num_parts);
    const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(1, bonds_per_part));
    torch::stable::parallel_for(0, num_parts, grain, [&](int64_t first, int64_t last) {
      for (int64_t p = first; p < last; ++p) parts[p].add(arrays, grads, atoms);
    });
    if (num_parts > bonds.num_cells) {
      torch::stable::parallel_for(0, bonds.num_atoms, 8192, [&](int64_t first, int64_t last) {
        for (const Part<T>& part : parts) {
          if (!part.whole_crystal) part.add_to(atoms, first, last);
        }
      });
    }
    for (const Part<T>& part : parts) {
      for (int k = 0; k < 9; ++k) sums[part.crystal][k] += part.sums[k];
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
