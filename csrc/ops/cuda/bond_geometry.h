// SPDX-License-Identifier: MIT
#pragma once

#include "launchers.h"

namespace dtnn::cuda {

// Formulas: ops/bond_geometry.h.
template <typename T>
struct BondGeometryArgs {
  const T* vectors;  // [num_bonds, 3]
  T cutoff;
  int64_t num_bonds;
  int64_t num_radial;
};
template <typename T>
struct BondGeometryResults {
  T* length;     // [num_bonds]
  T* direction;  // [num_bonds, 3]
  T* envelope;   // [num_bonds]
  T* radial;     // [num_bonds, num_radial]
};
// Of shapes as the results; null for zero.
template <typename T>
struct BondGeometryResultGrads {
  const T* length;
  const T* direction;
  const T* envelope;
  const T* radial;
};

// Defined for T = float and double.
template <typename T>
const char* launch_bond_geometry(const BondGeometryArgs<T>& args, const BondGeometryResults<T>& results, void* stream);
template <typename T>
const char* launch_bond_geometry_backward(const BondGeometryArgs<T>& args, const BondGeometryResultGrads<T>& grads,
                                          T* grad_vectors, void* stream);

}  // namespace dtnn::cuda
