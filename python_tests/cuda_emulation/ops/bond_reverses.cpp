// SPDX-License-Identifier: MIT
#include "bond_reverses.h"

#include "neighbor_cases.h"

extern "C" const char* bond_reverses(const int64_t* pairs, const int32_t* shifts, const int64_t* row_ptr,
                                     int64_t* reverses, int64_t* bad, int64_t num_atoms, int64_t num_bonds) {
  return dtnn::cuda::launch_bond_reverses(
      {pairs, pairs + num_bonds, shifts, row_ptr, reverses, bad, num_atoms, num_bonds}, nullptr);
}

DTNN_CASE(bond_reverses) {
  const dtnn::cases::BoxBatch batch({3, 0, 1, 40, 9, 0}, {4, 5, 3}, 1);
  const auto bonds = batch.bonds(4.5, false);
  const int64_t num_bonds = static_cast<int64_t>(bonds.size()), num_atoms = batch.ptr.back();
  std::vector<int64_t> pairs(2 * num_bonds), row_ptr(num_atoms + 1, 0), reverses(num_bonds);
  std::vector<int32_t> shifts(3 * num_bonds);
  for (int64_t bond = 0; bond < num_bonds; ++bond) {
    pairs[bond] = bonds[bond][0], pairs[num_bonds + bond] = bonds[bond][1];
    for (int m = 0; m < 3; ++m) shifts[3 * bond + m] = static_cast<int32_t>(bonds[bond][2 + m]);
    for (int64_t atom = bonds[bond][0] + 1; atom <= num_atoms; ++atom) row_ptr[atom] = bond + 1;
  }
  int64_t bad = -1;
  const auto run = [&] {
    return bond_reverses(pairs.data(), shifts.data(), row_ptr.data(), reverses.data(), &bad, num_atoms, num_bonds);
  };
  if (const char* error = run()) return error;
  if (bad != 0) return "a good list was called bad";
  for (int64_t bond = 0; bond < num_bonds; ++bond) {
    const auto& one = bonds[bond];
    if (bonds[reverses[bond]] != decltype(bonds)::value_type{one[1], one[0], -one[2], -one[3], -one[4]})
      return "wrong reverse";
  }
  for (const int64_t wrong : {int64_t{-1}, num_atoms, int64_t{1} << 62}) {
    for (std::vector<int64_t>* place : {&pairs, &row_ptr}) {
      for (const size_t index : {size_t{0}, place->size() - 1, place->size() / 2}) {
        const int64_t good = (*place)[index];
        (*place)[index] = wrong;
        if (const char* error = run()) return error;
        if (bad == 0) return "a bad index was not reported";
        (*place)[index] = good;
      }
    }
  }
  return "";
}
