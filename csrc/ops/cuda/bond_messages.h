// SPDX-License-Identifier: MIT
// The CUDA kernels of bond_messages and its backward as plain C++ functions; rules as in launchers.h, formulas in
// ops/bond_messages.h. All tensors are contiguous.
//
// Bonds go in chunks, whose features and hidden channels stay near the cache. Sums at the atoms go over the bonds of
// the center in order, then over those of the neighbor: the same bits in every run.
#pragma once

#include "launchers.h"
#include "rank2.h"

namespace dtnn::cuda {

struct MessageSizes {
  int64_t num_atoms;
  int64_t num_bonds;
  int64_t scalars;
  int64_t vectors;
  int64_t radial;
  int64_t hidden;
  int64_t outputs;   // C + 5 V
  int64_t features;  // C + 5 V + R
};

template <typename T>
struct MessageArgs {
  MessageSizes sizes;
  const T* q;                       // [N, 3, V]
  const T* tau;                     // [N, 6, V]
  const T* atom_hidden;             // [N, H]
  const T* bond_scalar;             // [E, C]
  const T* bond_vector;             // [E, 3, V]
  const T* direction;               // [E, 3]
  const T* envelope;                // [E]
  const T* radial;                  // [E, R]
  const T* hidden_weight;           // [H, C + 5 V + R]
  const T* hidden_bias;             // [H]
  const T* out_weight;              // [C + 5 V, H]
  const T* out_bias;                // [C + 5 V]
  const T* turn;                    // [E, 3, 3], null without turns
  const T* counts;                  // [2, E], null without turns
  const int64_t* pairs;             // [2, E]
  const int64_t* row_ptr;           // [N + 1], bonds by center
  const int64_t* neighbor_order;    // [E], bonds sorted by neighbor
  const int64_t* neighbor_row_ptr;  // [N + 1], rows of neighbor_order
  Precision precision;              // of the products
  ErrorSink errors;
};

template <typename T>
struct MessageResults {
  T* scalar;      // [E, C]
  T* vector;      // [E, 3, V]
  T* sum_scalar;  // [N, C]
  T* sum_vector;  // [N, 3, V]
  T* sum_rank2;   // [N, 6, V]
};

// Gradients of the results; those of an absent one are zero.
template <typename T>
struct MessageResultGrads {
  const T* scalar;
  const T* vector;
  const T* sum_scalar;
  const T* sum_vector;
  const T* sum_rank2;
};

// Where the gradients of the inputs go. Those of direction, envelope and radial are written with `need_geometry` only,
// those of the weights with `need_weights`.
template <typename T>
struct MessageInputGrads {
  bool need_geometry;
  bool need_weights;
  T* q;
  T* tau;
  T* atom_hidden;
  T* bond_scalar;
  T* bond_vector;
  T* direction;
  T* envelope;
  T* radial;
  T* hidden_weight;
  T* hidden_bias;
  T* out_weight;
  T* out_bias;
};

// Numbers of T that the launchers need as memory.
int64_t messages_workspace(const MessageSizes& sizes);
int64_t messages_backward_workspace(const MessageSizes& sizes, bool need_weights);

// Defined for T = float and double.
template <typename T>
const char* launch_bond_messages(const MessageArgs<T>& args, const MessageResults<T>& results, T* workspace,
                                 void* stream);
template <typename T>
const char* launch_bond_messages_backward(const MessageArgs<T>& args, const MessageResultGrads<T>& result_grads,
                                          const MessageInputGrads<T>& grads, T* workspace, void* stream);

}  // namespace dtnn::cuda
