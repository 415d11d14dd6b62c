// SPDX-License-Identifier: MIT
#include "ops/neighbor_list.h"

#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"
#endif

namespace dtnn {

NeighborListArguments check_neighbor_list_arguments(const char* op, const Tensor& positions, const Tensor& cell,
                                                    const Tensor& pbc, const OptionalTensor& ptr, double cutoff,
                                                    const OptionalTensor& cutoffs, bool half, bool self_pairs) {
  const CrystalBatch batch = check_crystal_batch(op, positions, cell, ptr, cutoff, cutoffs);
  check_dtype(op, "pbc", pbc, ScalarType::Bool);
  check_same_device(op, "pbc", pbc, "positions", positions);
  check_shared_or_per_crystal(op, "pbc", pbc, batch.num_crystals(), false);
  return {batch, torch::stable::contiguous(pbc), half, self_pairs};
}

namespace {

// The op on one device.
template <NeighborListTensors (*kernel)(const NeighborListArguments&)>
NeighborListTensors run(const Tensor& positions, const Tensor& cell, const Tensor& pbc, const OptionalTensor& ptr,
                        double cutoff, const OptionalTensor& cutoffs, bool half, bool self_pairs) {
  return kernel(
      check_neighbor_list_arguments("neighbor_list", positions, cell, pbc, ptr, cutoff, cutoffs, half, self_pairs));
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "neighbor_list(Tensor positions, Tensor cell, Tensor pbc, Tensor? ptr, float cutoff, Tensor? cutoffs, bool half, "
      "bool self_pairs) -> (Tensor pairs, Tensor shifts, Tensor row_ptr)");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) { library.impl("neighbor_list", TORCH_BOX(&dtnn::run<dtnn::neighbor_list_cpu>)); }
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("neighbor_list", TORCH_BOX(&dtnn::run<dtnn::neighbor_list_cuda>));
}
#endif
