// SPDX-License-Identifier: MIT
#pragma once

#include "launchers.h"

namespace dtnn::cuda {

// epsilon[b] = mean over the atoms of crystal b of sum_c (s_c I + v_c (x) v_c + t_c), summed in float64 over tiles of
// atoms (segment_sums.h); symmetric to the bit.
template <typename T>
struct TensorReadoutArgs {
  const T* atom_scalar;  // [num_atoms, channels]
  const T* atom_vector;  // [num_atoms, 3, channels]
  const T* atom_rank2;   // [num_atoms, 6, channels]
  const int64_t* ptr;    // [num_crystals + 1]
  T* epsilon;            // [num_crystals, 3, 3]
  void* workspace;       // tensor_readout_workspace(num_atoms, channels) bytes
  int64_t num_atoms;
  int64_t channels;  // below 2^31
  int64_t num_crystals;
  ErrorSink errors;
};

// With G = grad[b] / number of atoms: grad_s = trace G, grad_v = (G + G^T) v, grad_t = G_xx G_yy G_zz and the sums
// G_yz + G_zy, G_xz + G_zx, G_xy + G_yx. The bits of the CPU.
template <typename T>
struct TensorReadoutBackwardArgs {
  const T* grad;         // [num_crystals, 3, 3]
  const T* atom_vector;  // [num_atoms, 3, channels]
  const int64_t* ptr;    // [num_crystals + 1]
  T* grad_scalar;        // [num_atoms, channels]
  T* grad_vector;        // [num_atoms, 3, channels]
  T* grad_rank2;         // [num_atoms, 6, channels]
  int64_t num_atoms;
  int64_t channels;  // below 2^31
  int64_t num_crystals;
  ErrorSink errors;
};

int64_t tensor_readout_workspace(int64_t num_atoms, int64_t channels);

// Defined for T = float and double.
template <typename T>
const char* launch_tensor_readout(const TensorReadoutArgs<T>& args, void* stream);
template <typename T>
const char* launch_tensor_readout_backward(const TensorReadoutBackwardArgs<T>& args, void* stream);

}  // namespace dtnn::cuda
