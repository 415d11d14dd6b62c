// SPDX-License-Identifier: MIT
#include "ops/neighbor_list_fixed.h"

#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"
#endif

namespace dtnn {

FixedNeighborListTensors empty_fixed_list(const NeighborListArguments& arguments, int64_t capacity) {
  const auto empty = [&](std::initializer_list<int64_t> sizes, ScalarType type) {
    return torch::stable::empty(sizes, type, std::nullopt, arguments.positions.device());
  };
  return {empty({2, capacity}, ScalarType::Long), empty({capacity, 3}, ScalarType::Int),
          empty({arguments.num_atoms() + 1}, ScalarType::Long), empty({1}, ScalarType::Long),
          empty({1}, ScalarType::Long)};
}

namespace {

// The op on one device.
template <FixedNeighborListTensors (*kernel)(const NeighborListArguments&, int64_t)>
FixedNeighborListTensors run(const Tensor& positions, const Tensor& cell, const Tensor& pbc, const OptionalTensor& ptr,
                             double cutoff, const OptionalTensor& cutoffs, bool half, bool self_pairs,
                             int64_t capacity) {
  const char* op = "neighbor_list_fixed";
  const NeighborListArguments arguments =
      check_neighbor_list_arguments(op, positions, cell, pbc, ptr, cutoff, cutoffs, half, self_pairs);
  DTNN_CHECK(capacity >= 0, op, ": expected a `capacity` of 0 or more, got ", capacity);
  DTNN_CHECK(capacity == 0 || arguments.num_atoms() > 0, op,
             ": expected a `capacity` of 0 without atoms, which padding needs, got ", capacity);
  return kernel(arguments, capacity);
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "neighbor_list_fixed(Tensor positions, Tensor cell, Tensor pbc, Tensor? ptr, float cutoff, Tensor? cutoffs, "
      "bool half, bool self_pairs, int capacity) "
      "-> (Tensor pairs, Tensor shifts, Tensor row_ptr, Tensor num_bonds, Tensor status)");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("neighbor_list_fixed", TORCH_BOX(&dtnn::run<dtnn::neighbor_list_fixed_cpu>));
}
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("neighbor_list_fixed", TORCH_BOX(&dtnn::run<dtnn::neighbor_list_fixed_cuda>));
}
#endif
