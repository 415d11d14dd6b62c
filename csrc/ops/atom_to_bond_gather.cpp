// SPDX-License-Identifier: MIT
#include "ops/atom_to_bond_gather.h"

#include <torch/csrc/stable/library.h>

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"
#include "ops/cuda/atom_to_bond_gather.h"
#endif

namespace dtnn {
namespace {

using OptionalTensor = std::optional<Tensor>;

BondEnds check(const Tensor& atom_values, const Tensor& pairs, const Tensor& row_ptr, const OptionalTensor& order,
               const OptionalTensor& order_ptr, int64_t center, int64_t neighbor) {
  BondEnds ends = check_bond_ends("atom_to_bond_gather", "atom_values", atom_values, pairs, row_ptr, order, order_ptr,
                                  center, neighbor);
  DTNN_CHECK(atom_values.size(0) == ends.num_atoms(),
             "atom_to_bond_gather: expected `atom_values` of shape [N, ...] with N = ", ends.num_atoms(),
             " as in `row_ptr`, got ", describe_shape(atom_values));
  return ends;
}

Tensor on_cpu(const Tensor& atom_values, const Tensor& pairs, const Tensor& row_ptr, const OptionalTensor& order,
              const OptionalTensor& order_ptr, int64_t center, int64_t neighbor) {
  return atom_to_bond_gather_cpu(atom_values, check(atom_values, pairs, row_ptr, order, order_ptr, center, neighbor));
}

#ifdef DTNN_WITH_CUDA
template <typename T>
Tensor launch(const Tensor& atom_values, const BondEnds& ends) {
  const char* op = "atom_to_bond_gather";
  const OnDeviceOf device(atom_values);
  void* const stream = current_cuda_stream(op, atom_values);
  const Tensor values = torch::stable::contiguous(atom_values);
  Tensor out = empty_rows(values, ends.num_bonds());
  const cuda::AtomToBondGatherArgs<T> args{values.const_data_ptr<T>(),
                                           ends.pairs.const_data_ptr<int64_t>(),
                                           out.mutable_data_ptr<T>(),
                                           ends.num_atoms(),
                                           ends.num_bonds(),
                                           payload_size(values),
                                           static_cast<int>(ends.center),
                                           static_cast<int>(ends.neighbor),
                                           error_sink(op, values)};
  check_launch(op, cuda::launch_atom_to_bond_gather(args, stream), values, stream);
  return out;
}

Tensor on_cuda(const Tensor& atom_values, const Tensor& pairs, const Tensor& row_ptr, const OptionalTensor& order,
               const OptionalTensor& order_ptr, int64_t center, int64_t neighbor) {
  const BondEnds ends = check(atom_values, pairs, row_ptr, order, order_ptr, center, neighbor);
  // Without atoms no index can be right; the kernel has nothing to put in its place.
  DTNN_CHECK(ends.num_atoms() > 0 || ends.num_bonds() == 0,
             "atom_to_bond_gather: expected `pairs` with atoms in [0, 0), got an index outside");
  return atom_values.scalar_type() == ScalarType::Float ? launch<float>(atom_values, ends)
                                                        : launch<double>(atom_values, ends);
}
#endif

}  // namespace
}  // namespace dtnn

STABLE_TORCH_LIBRARY_FRAGMENT(dtnn_fast, library) {
  library.def(
      "atom_to_bond_gather(Tensor atom_values, Tensor pairs, Tensor row_ptr, Tensor? neighbor_order, "
      "Tensor? neighbor_row_ptr, int center, int neighbor) -> Tensor");
}
#ifndef DTNN_EMULATE_CUDA
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, CPU, library) { library.impl("atom_to_bond_gather", TORCH_BOX(&dtnn::on_cpu)); }
#endif
#ifdef DTNN_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, DTNN_CUDA_KEY, library) { library.impl("atom_to_bond_gather", TORCH_BOX(&dtnn::on_cuda)); }
#endif
