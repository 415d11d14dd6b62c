// SPDX-License-Identifier: MIT
// The torch side of the CUDA kernels of neighbor_list: their arguments and temporary arrays.
#pragma once

#ifdef DTNN_WITH_CUDA

#include "ops/cuda/neighbor_list.h"
#include "ops/neighbor_list.h"

namespace dtnn {

// One count, ready to be filled. The tensors must live until the fill is enqueued; the allocator keeps their memory
// from other work of the same stream until then.
struct NeighborCount {
  cuda::NeighborListArgs args;
  bool with_large;
  Tensor workspace;
  Tensor status;
  cuda::NeighborBuffers buffers;
};

// Enqueues the count, on the current stream of the current device, into row_ptr [N+1]. `with_large`: see
// ops/cuda/neighbor_list.h.
NeighborCount enqueue_neighbor_count(const char* op, const NeighborListArguments& arguments, bool with_large,
                                     Tensor& row_ptr, void* stream);

}  // namespace dtnn

#endif
