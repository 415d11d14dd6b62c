// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/bond_orbits.h"
#include "core/symmetry_operations.h"
#include "ops/cpu/list_kernels.h"
#include "ops/reduce_bonds.h"

namespace dtnn {
namespace {

constexpr const char* kOp = "reduce_bonds";
// Sums of a few shifts fit into int32.
constexpr int64_t kLargestShift = int64_t{1} << 28;

// Checks the values of one crystal that are used as indices.
void check_values(const CrystalOperations& crystals, const OperationOffsets& offsets, int64_t b,
                  const SortedBonds& bonds, const int32_t* atoms, const int32_t* shifts) {
  const int64_t first = offsets.atom[b], last = offsets.atom[b + 1];
  const int64_t* row_ptr = bonds.row_ptr.const_data_ptr<int64_t>();
  const int64_t* centers = bonds.pairs.const_data_ptr<int64_t>();
  const int64_t* neighbors = centers + bonds.num_bonds();
  const int32_t* bond_shifts = bonds.shifts.const_data_ptr<int32_t>();
  for (int64_t row = offsets.image[b]; row < offsets.image[b + 1]; ++row)
    DTNN_CHECK(atoms[row] >= 0 && atoms[row] < last - first, kOp, ": crystal ", b,
               ": expected `atoms` of this crystal, from 0 to ", last - first - 1, ", got ", atoms[row], " at row ",
               row);
  for (int64_t k = 3 * offsets.image[b]; k < 3 * offsets.image[b + 1]; ++k)
    DTNN_CHECK(std::abs(int64_t{shifts[k]}) <= kLargestShift, kOp, ": crystal ", b, ": expected `shifts` from ",
               -kLargestShift, " to ", kLargestShift, ", got ", shifts[k]);
  for (int64_t k = 3 * row_ptr[first]; k < 3 * row_ptr[last]; ++k)
    DTNN_CHECK(std::abs(int64_t{bond_shifts[k]}) <= kLargestShift, kOp, ": crystal ", b,
               ": expected `bond_shifts` from ", -kLargestShift, " to ", kLargestShift, ", got ", bond_shifts[k]);
  const int32_t* rotations = crystals.rotations.const_data_ptr<int32_t>();
  for (int64_t k = 9 * offsets.operation[b]; k < 9 * offsets.operation[b + 1]; ++k)
    DTNN_CHECK(rotations[k] >= -kLargestEntry && rotations[k] <= kLargestEntry, kOp, ": crystal ", b,
               ": expected `rotations` with entries from ", -kLargestEntry, " to ", kLargestEntry, ", got ",
               rotations[k]);
  for (int64_t i = first; i < last; ++i)
    for (int64_t e = row_ptr[i]; e < row_ptr[i + 1]; ++e)
      DTNN_CHECK(centers[e] == i && neighbors[e] >= first && neighbors[e] < last, kOp, ": crystal ", b,
                 ": expected `pairs` sorted by center with both ends in one crystal, got atoms ", centers[e], " and ",
                 neighbors[e], " at bond ", e, " of atom ", i);
}

}  // namespace

ReducedTensors reduce_bonds_cpu(const CrystalOperations& crystals, const SortedBonds& bonds, bool half,
                                const Tensor& atoms, const Tensor& shifts, const std::vector<double>& cutoffs) {
  const OperationOffsets offsets = operation_offsets(kOp, crystals);
  check_row_ptr_values(kOp, bonds);
  const int64_t num_crystals = crystals.num_crystals();
  DTNN_CHECK(atoms.size(0) == offsets.image[num_crystals], kOp,
             ": expected `atoms` of shape [M] with M = ", offsets.image[num_crystals], " operations times atoms, got ",
             describe_shape(atoms));
  const double* positions = crystals.positions.const_data_ptr<double>();
  const double* cells = crystals.cell.const_data_ptr<double>();
  const Parallel parallel = torch_threads();
  std::vector<BondOrbits> orbits(num_crystals);
  for_each_task(parallel, num_crystals, [&](int64_t b) {
    check_values(crystals, offsets, b, bonds, atoms.const_data_ptr<int32_t>(), shifts.const_data_ptr<int32_t>());
    const int64_t first = offsets.atom[b];
    const BondOrbitArguments arguments{offsets.atom[b + 1] - first,
                                       positions + 3 * first,
                                       cells + 9 * b,
                                       offsets.operation[b + 1] - offsets.operation[b],
                                       crystals.rotations.const_data_ptr<int32_t>() + 9 * offsets.operation[b],
                                       atoms.const_data_ptr<int32_t>() + offsets.image[b],
                                       shifts.const_data_ptr<int32_t>() + 3 * offsets.image[b],
                                       bonds.row_ptr.const_data_ptr<int64_t>() + first,
                                       bonds.pairs.const_data_ptr<int64_t>() + bonds.num_bonds(),
                                       bonds.shifts.const_data_ptr<int32_t>(),
                                       first,
                                       half,
                                       cutoffs.data(),
                                       static_cast<int64_t>(cutoffs.size())};
    try {
      orbits[b] = find_bond_orbits(arguments);
    } catch (const std::invalid_argument& error) {
      DTNN_CHECK(false, kOp, ": crystal ", b, ": ", error.what());
    }
  });

  std::vector<int64_t> first_atom{0}, first_bond{0};
  for (const BondOrbits& found : orbits) {
    first_atom.push_back(first_atom.back() + static_cast<int64_t>(found.stored.size()));
    first_bond.push_back(first_bond.back() + static_cast<int64_t>(found.bonds.size()));
  }
  const int64_t num_stored = first_atom.back(), num_bonds = first_bond.back();
  const auto empty = [&](std::initializer_list<int64_t> sizes, ScalarType type) {
    return torch::stable::empty(sizes, type, std::nullopt, crystals.positions.device());
  };
  constexpr ScalarType kLong = ScalarType::Long, kDouble = ScalarType::Double;
  Tensor stored = empty({num_stored}, kLong), weight = empty({num_stored}, kDouble);
  Tensor stored_ptr = empty({num_crystals + 1}, kLong), projector = empty({num_crystals, 6, 6}, kDouble);
  Tensor pairs = empty({2, num_bonds}, kLong), new_shifts = empty({num_bonds, 3}, ScalarType::Int);
  Tensor row_ptr = empty({num_stored + 1}, kLong), level = empty({num_bonds}, kLong);
  Tensor vectors = empty({num_bonds, 3}, kDouble), rotation = empty({num_bonds, 3, 3}, kDouble);
  Tensor counts = empty({2, num_bonds}, kDouble);
  Tensor site_vector = empty({num_stored, 3, 3}, kDouble), site_rank2 = empty({num_stored, 6, 6}, kDouble);
  int64_t *to_stored = stored.mutable_data_ptr<int64_t>(), *to_pairs = pairs.mutable_data_ptr<int64_t>();
  int64_t *to_row_ptr = row_ptr.mutable_data_ptr<int64_t>(), *to_level = level.mutable_data_ptr<int64_t>();
  int32_t* to_shifts = new_shifts.mutable_data_ptr<int32_t>();
  double *to_weight = weight.mutable_data_ptr<double>(), *to_projector = projector.mutable_data_ptr<double>();
  double *to_vectors = vectors.mutable_data_ptr<double>(), *to_rotation = rotation.mutable_data_ptr<double>();
  double* to_counts = counts.mutable_data_ptr<double>();
  double *to_site_vector = site_vector.mutable_data_ptr<double>(),
         *to_site_rank2 = site_rank2.mutable_data_ptr<double>();
  std::copy(first_atom.begin(), first_atom.end(), stored_ptr.mutable_data_ptr<int64_t>());
  to_row_ptr[num_stored] = num_bonds;
  for_each_task(parallel, num_crystals, [&](int64_t b) {
    const BondOrbits& found = orbits[b];
    std::copy_n(found.projector, 36, to_projector + 36 * b);
    std::copy(found.site_vector.begin(), found.site_vector.end(), to_site_vector + 9 * first_atom[b]);
    std::copy(found.site_rank2.begin(), found.site_rank2.end(), to_site_rank2 + 36 * first_atom[b]);
    int64_t bond = 0;
    for (size_t k = 0; k < found.stored.size(); ++k) {
      to_stored[first_atom[b] + k] = offsets.atom[b] + found.stored[k];
      to_weight[first_atom[b] + k] = static_cast<double>(found.weight[k]);
      while (bond < static_cast<int64_t>(found.bonds.size()) && found.bonds[bond].center < static_cast<int64_t>(k))
        ++bond;
      to_row_ptr[first_atom[b] + k] = first_bond[b] + bond;
    }
    for (size_t k = 0; k < found.bonds.size(); ++k) {
      const StoredBond& from = found.bonds[k];
      const int64_t e = first_bond[b] + k, reverse = num_bonds + e;
      to_pairs[e] = first_atom[b] + from.center;
      to_pairs[reverse] = first_atom[b] + from.neighbor;
      std::copy_n(from.shift, 3, to_shifts + 3 * e);
      to_level[e] = from.level;
      std::copy_n(from.vector, 3, to_vectors + 3 * e);
      std::copy_n(from.rotation, 9, to_rotation + 9 * e);
      to_counts[e] = from.num_at_center;
      to_counts[reverse] = from.num_at_neighbor;
    }
  });
  return {stored,     weight,  stored_ptr, projector, site_vector, site_rank2, pairs,
          new_shifts, row_ptr, level,      vectors,   rotation,    counts};
}

}  // namespace dtnn
