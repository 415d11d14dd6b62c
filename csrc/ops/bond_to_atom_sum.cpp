// SPDX-License-Identifier: MIT
#include "ops/bond_to_atom_sum.h"

#include <torch/csrc/stable/library.h>

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"
#include "ops/cuda/bond_to_atom_sum.h"
#endif

namespace dtnn {
namespace {

using OptionalTensor = std::optional<Tensor>;

BondEnds check(const Tensor& bond_values, const Tensor& pairs, const Tensor& row_ptr, const OptionalTensor& order,
               const OptionalTensor& order_ptr, int64_t center, int64_t neighbor) {
  BondEnds ends = check_bond_ends("bond_to_atom_sum", "bond_values", bond_values, pairs, row_ptr, order, order_ptr,
                                  center, neighbor);
  DTNN_CHECK(bond_values.size(0) == pairs.size(1),
             "bond_to_atom_sum: expected `bond_values` of shape [E, ...] with E = ", pairs.size(1),
             " as in `pairs`, got ", describe_shape(bond_values));
  return ends;
}

Tensor on_cpu(const Tensor& bond_values, const Tensor& pairs, const Tensor& row_ptr, const OptionalTensor& order,
              const OptionalTensor& order_ptr, int64_t center, int64_t neighbor) {
  return bond_to_atom_sum_cpu(bond_values, check(bond_values, pairs, row_ptr, order, order_ptr, center, neighbor));
}

#ifdef DTNN_WITH_CUDA
template <typename T>
Tensor launch(const Tensor& bond_values, const BondEnds& ends) {
  const char* op = "bond_to_atom_sum";
  const OnDeviceOf device(bond_values);
  void* const stream = current_cuda_stream(op, bond_values);
  const Tensor values = torch::stable::contiguous(bond_values);
  Tensor out = empty_rows(values, ends.num_atoms());
  const cuda::BondToAtomSumArgs<T> args{values.const_data_ptr<T>(),
                                        ends.pairs.const_data_ptr<int64_t>(),
                                        ends.row_ptr.const_data_ptr<int64_t>(),
                                        ends.neighbor == 0 ? nullptr : ends.neighbor_order->const_data_ptr<int64_t>(),
                                        ends.neighbor == 0 ? nullptr : ends.neighbor_row_ptr->const_data_ptr<int64_t>(),
                                        out.mutable_data_ptr<T>(),
                                        ends.num_atoms(),
                                        ends.num_bonds(),
                                        payload_size(values),
                                        static_cast<int>(ends.center),
                                        static_cast<int>(ends.neighbor),
                                        error_sink(op, values)};
  check_launch(op, cuda::launch_bond_to_atom_sum(args, stream), values, stream);
  return out;
}

Tensor on_cuda(const Tensor& bond_values, const Tensor& pairs, const Tensor& row_ptr, const OptionalTensor& order,
               const OptionalTensor& order_ptr, int64_t center, int64_t neighbor) {
  const BondEnds ends = check(bond_values, pairs, row_ptr, order, order_ptr, center, neighbor);
  // Without atoms there is no kernel to find out.
  DTNN_CHECK(ends.num_atoms() > 0 || ends.num_bonds() == 0,
             "bond_to_atom_sum: expected `row_ptr` from 0 to the number of bonds, ", ends.num_bonds(),
             ", got one number for 0 atoms");
  return bond_values.scalar_type() == ScalarType::Float ? launch<float>(bond_values, ends)
                                                        : launch<double>(bond_values, ends);
}
#endif

}  // namespace
}  // namespace dtnn

STABLE_TORCH_LIBRARY_FRAGMENT(dtnn_fast, library) {
  library.def(
      "bond_to_atom_sum(Tensor bond_values, Tensor pairs, Tensor row_ptr, Tensor? neighbor_order, "
      "Tensor? neighbor_row_ptr, int center, int neighbor) -> Tensor");
}
#ifndef DTNN_EMULATE_CUDA
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, CPU, library) { library.impl("bond_to_atom_sum", TORCH_BOX(&dtnn::on_cpu)); }
#endif
#ifdef DTNN_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, DTNN_CUDA_KEY, library) { library.impl("bond_to_atom_sum", TORCH_BOX(&dtnn::on_cuda)); }
#endif
