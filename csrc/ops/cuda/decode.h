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

// The gradients of the atoms' tensors of one readout, for the atoms from `first` on, and of their shares.
template <typename T>
struct AtomTensorGradsArgs {
  const T* grad;          // [num_members, num_readouts, num_crystals, 3, 3]
  const T* share;         // [num_atoms], or null for the mean
  const int64_t* ptr;     // [num_crystals + 1]
  const T* atom_tensors;  // [num_members, member_rows, 6] of these atoms; read for grad_share alone
  T* grad_tensors;        // [num_members, member_rows, 6]
  T* grad_share;          // [num_atoms], or null; the first readout writes, others add
  int64_t num_members;
  int64_t num_readouts;
  int64_t readout;
  int64_t num_atoms;
  int64_t num_crystals;
  int64_t member_rows;
  int64_t first;
  int64_t rows;
  ErrorSink errors;
};
template <typename T>
const char* launch_atom_tensor_grads(const AtomTensorGradsArgs<T>& args, void* stream);

}  // namespace dtnn::cuda
