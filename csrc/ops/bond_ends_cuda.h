// SPDX-License-Identifier: MIT
// Shared by the torch sides of bond_to_atom_sum and atom_to_bond_gather on CUDA: the call of a launcher of ops/cuda.
#pragma once

#include "bond_ends.h"
#include "cuda_stream.h"
#include "ops/cuda/bond_ends_args.h"

namespace dtnn {

template <typename T>
using BondEndsLauncher = const char* (*)(const cuda::BondEndsArgs<T>&, void*);

// Enqueues `op` on the current stream of the values' device. Returns its output [num_rows, trailing sizes of `values`].
template <typename T>
Tensor launch_on_bond_ends(const char* op, BondEndsLauncher<T> launcher, const Tensor& values, const BondEnds& ends,
                           int64_t num_rows) {
  const OnDeviceOf device(values);
  void* const stream = current_cuda_stream(op, values);
  const Tensor rows = torch::stable::contiguous(values);
  Tensor out = empty_rows(rows, num_rows);
  const cuda::BondEndsArgs<T> args{static_cast<const T*>(rows.const_data_ptr()),
                                   ends.pairs.const_data_ptr<int64_t>(),
                                   static_cast<T*>(out.mutable_data_ptr()),
                                   ends.num_atoms(),
                                   ends.num_bonds(),
                                   payload_size(rows),
                                   static_cast<int>(ends.center),
                                   static_cast<int>(ends.neighbor),
                                   error_sink(op, rows),
                                   ends.row_ptr.const_data_ptr<int64_t>(),
                                   data_or_null<int64_t>(ends.neighbor_order),
                                   data_or_null<int64_t>(ends.neighbor_row_ptr)};
  check_launch(op, launcher(args, stream), rows, stream);
  return out;
}

// Calls run(T()) for the type T that the kernels have for values of this dtype.
template <typename Run>
Tensor for_bond_ends_type(ScalarType dtype, const Run& run) {
  switch (dtype) {
    case ScalarType::Half:
      return run(cuda::Float16());
    case ScalarType::BFloat16:
      return run(cuda::BFloat16());
    case ScalarType::Double:
      return run(double());
    default:
      return run(float());
  }
}

}  // namespace dtnn
