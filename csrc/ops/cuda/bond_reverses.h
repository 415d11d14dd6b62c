// SPDX-License-Identifier: MIT
// The CUDA kernel of bond_reverses as a plain C++ function; the common rules of launchers.h hold.
#pragma once

#include <cstdint>

namespace dtnn::cuda {

struct BondReversesArgs {
  const int64_t* centers;    // [num_bonds]
  const int64_t* neighbors;  // [num_bonds]
  const int32_t* shifts;     // [num_bonds, 3]
  const int64_t* row_ptr;    // [num_atoms + 1]
  int64_t* reverses;         // [num_bonds]
  int64_t* bad;              // [1]: becomes 1 when the list is not a sorted, full one, else 0
  int64_t num_atoms;
  int64_t num_bonds;
};

const char* launch_bond_reverses(const BondReversesArgs& args, void* stream);

}  // namespace dtnn::cuda
