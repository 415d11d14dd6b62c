// SPDX-License-Identifier: MIT
// Shared by the two halves of bond_messages_backward: the gradients of a chunk of bonds (message_grads_cuda.cu), and
// what follows from those of all bonds (bond_messages_backward_cuda.cu).
#pragma once

#include "message_steps.h"

namespace dtnn::cuda {

// Of each channel of a bond: g_d, g_m, and the gradients of q_c . q_n and tau_c : tau_n. [E, 8, V].
constexpr int kBondTerms = 8;

// Numbers that a bond of a chunk needs.
inline int64_t chunk_row(const MessageSizes& sizes) { return 2 * (sizes.features + sizes.hidden + sizes.outputs); }

template <typename T>
struct ChunkMemory {
  T* features;
  T* hidden;
  T* slope;
  T* out;
  T* g_out;
  T* g_features;

  ChunkMemory(T* memory, const MessageSizes& sizes) {
    const int64_t rows = rows_of_chunk(sizes.num_bonds);
    features = memory;
    g_features = features + rows * sizes.features;
    hidden = g_features + rows * sizes.features;
    slope = hidden + rows * sizes.hidden;
    out = slope + rows * sizes.hidden;
    g_out = out + rows * sizes.outputs;
  }
};

// All gradients of the bonds from `first` on, and what the sums at the atoms need of them: `terms` of all bonds, and
// g_pre [rows, H].
template <typename T>
const char* launch_message_grads(const MessageArgs<T>& args, const MessageResultGrads<T>& result_grads,
                                 const MessageInputGrads<T>& grads, const ChunkMemory<T>& memory, T* terms, T* g_pre,
                                 int64_t first, int64_t rows, void* stream);

}  // namespace dtnn::cuda
