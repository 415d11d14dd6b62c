// SPDX-License-Identifier: MIT
#pragma once

#include "launchers.h"

namespace dtnn::cuda {

// out[d, b] = the sum over the atoms of crystal b of share times the atom's tensor, summed in float64 over tiles of
// atoms (segment_sums.h); symmetric to the bit. d counts the readouts of all members.
template <typename T>
struct CrystalTensorsArgs {
  const T* atom_tensors;  // [num_readouts, num_atoms, 6], xx yy zz yz xz xy
  const T* share;         // [num_atoms], or null for the mean
  const int64_t* ptr;     // [num_crystals + 1]
  T* out;                 // [num_readouts, num_crystals, 3, 3]
  void* workspace;        // crystal_tensors_workspace(num_readouts, num_atoms) bytes
  int64_t num_readouts;
  int64_t num_atoms;
  int64_t num_crystals;
  ErrorSink errors;
};

int64_t crystal_tensors_workspace(int64_t num_readouts, int64_t num_atoms);

// Defined for T = float and double.
template <typename T>
const char* launch_crystal_tensors(const CrystalTensorsArgs<T>& args, void* stream);

}  // namespace dtnn::cuda
