// SPDX-License-Identifier: MIT
#include "ops/bond_reverses.h"

#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"
#include "ops/cuda/bond_reverses.h"
#endif

namespace dtnn {
namespace {

#ifdef DTNN_WITH_CUDA
// One synchronisation, to raise what is wrong: the result is used as an index.
Tensor bond_reverses_cuda(const SortedBonds& bonds) {
  const char* op = "bond_reverses";
  const OnDeviceOf current(bonds.pairs);
  void* const stream = current_cuda_stream(op, bonds.pairs);
  check_not_capturing(op, stream);
  const auto empty = [&](int64_t size) {
    return torch::stable::empty({size}, ScalarType::Long, std::nullopt, bonds.pairs.device());
  };
  Tensor reverses = empty(bonds.num_bonds()), bad = empty(1);
  const int64_t* const pairs = bonds.pairs.const_data_ptr<int64_t>();
  const cuda::BondReversesArgs args{pairs,
                                    pairs + bonds.num_bonds(),
                                    bonds.shifts.const_data_ptr<int32_t>(),
                                    bonds.row_ptr.const_data_ptr<int64_t>(),
                                    reverses.mutable_data_ptr<int64_t>(),
                                    bad.mutable_data_ptr<int64_t>(),
                                    bonds.num_atoms(),
                                    bonds.num_bonds()};
  check_launch(op, cuda::launch_bond_reverses(args, stream));
  if (*to_cpu(bad).const_data_ptr<int64_t>() == 0) return reverses;
  // The CPU checks the same values and raises the error with the same message.
  bond_reverses_cpu({to_cpu(bonds.pairs), to_cpu(bonds.shifts), to_cpu(bonds.row_ptr)});
  DTNN_CHECK(false, op, ": expected a full list, sorted as by neighbor_list, got another");
}
#endif

// The op on one device.
template <Tensor (*kernel)(const SortedBonds&)>
Tensor run(const Tensor& pairs, const Tensor& shifts, const Tensor& row_ptr) {
  return kernel(check_sorted_bonds("bond_reverses", pairs, shifts, row_ptr, "pairs", pairs));
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) { library.def("bond_reverses(Tensor pairs, Tensor shifts, Tensor row_ptr) -> Tensor"); }
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) { library.impl("bond_reverses", TORCH_BOX(&dtnn::run<dtnn::bond_reverses_cpu>)); }
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("bond_reverses", TORCH_BOX(&dtnn::run<dtnn::bond_reverses_cuda>));
}
#endif
