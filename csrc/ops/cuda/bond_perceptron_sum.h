// SPDX-License-Identifier: MIT
// What bond_perceptron_sum needs besides the perceptrons themselves, which are tile programs (tile_program.h); rules as
// in launchers.h.
#pragma once

#include "launchers.h"

namespace dtnn::cuda {

// The bonds, and how much of a bond's value enters at each end: envelope times factor.
template <typename T>
struct BondValueEnds {
  const T* envelope;                // [E]
  const T* factors;                 // [2, E], null: 1
  const int64_t* pairs;             // [2, E]
  const int64_t* row_ptr;           // [N + 1], bonds by center
  const int64_t* neighbor_order;    // [E], bonds sorted by neighbor
  const int64_t* neighbor_row_ptr;  // [N + 1], rows of neighbor_order
  int64_t num_atoms;
  int64_t num_bonds;
  ErrorSink errors;
};

// sums [M, N, D] of the values [M, E, D] over the bonds of each atom: those of the center in order, then those of the
// neighbor. What is wrong with the indices is reported by launch_envelope_sum alone.
template <typename T>
const char* launch_bond_value_sums(const BondValueEnds<T>& ends, const T* values, T* sums, int64_t members,
                                   int64_t outputs, void* stream);
// envelope_sum [N]: the same with 1 for the values.
template <typename T>
const char* launch_envelope_sum(const BondValueEnds<T>& ends, T* envelope_sum, void* stream);

// The gradients of the values of `rows` bonds from `first` on, and those of envelope and factors, which are null where
// they are not needed. Bonds with an index out of range are reported and get NaN.
template <typename T>
struct BondValueGrads {
  const T* grad_sums;          // [M, N, D], or null: the values have no gradients
  const T* grad_envelope_sum;  // [N], or null
  const T* values;             // [M, value_rows, D] of these bonds; read for envelope and factors alone
  T* grad_values;              // likewise
  T* envelope;                 // [E]
  T* factors;                  // [2, E]
  int64_t members;
  int64_t outputs;
  int64_t value_rows;
  int64_t first;
  int64_t rows;
};
template <typename T>
const char* launch_bond_value_grads(const BondValueEnds<T>& ends, const BondValueGrads<T>& grads, void* stream);

// flat [M, P] = the parts [M, sizes[k]] side by side.
constexpr int kPerceptronParts = 4;
template <typename T>
struct PerceptronParts {
  const T* data[kPerceptronParts];
  int64_t sizes[kPerceptronParts];
};
template <typename T>
const char* launch_join_parts(const PerceptronParts<T>& parts, T* flat, int64_t members, void* stream);
// The parts from `flat`.
template <typename T>
struct PerceptronPartGrads {
  T* data[kPerceptronParts];
  int64_t sizes[kPerceptronParts];
};
template <typename T>
const char* launch_split_parts(const T* flat, const PerceptronPartGrads<T>& parts, int64_t members, void* stream);

}  // namespace dtnn::cuda
