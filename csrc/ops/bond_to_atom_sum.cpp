// SPDX-License-Identifier: MIT
#include "ops/bond_to_atom_sum.h"

#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "ops/bond_ends_cuda.h"
#include "ops/cuda/bond_to_atom_sum.h"
#endif

namespace dtnn {
namespace {

constexpr const char* kOp = "bond_to_atom_sum";

#ifdef DTNN_WITH_CUDA
Tensor bond_to_atom_sum_cuda(const Tensor& bond_values, const BondEnds& ends) {
  const int64_t num_atoms = ends.num_atoms();
  // Without atoms no kernel runs that would report this.
  DTNN_CHECK(num_atoms > 0 || ends.num_bonds() == 0, kOp, ": expected `row_ptr` from 0 to the number of bonds, ",
             ends.num_bonds(), ", got one number for 0 atoms");
  return for_bond_ends_type(bond_values.scalar_type(), [&](auto type) {
    return launch_on_bond_ends<decltype(type)>(kOp, cuda::launch_bond_to_atom_sum, bond_values, ends, num_atoms);
  });
}
#endif

// The op on one device.
template <Tensor (*kernel)(const Tensor&, const BondEnds&)>
Tensor run(const Tensor& bond_values, const Tensor& pairs, const Tensor& row_ptr, const OptionalTensor& order,
           const OptionalTensor& order_ptr, int64_t center, int64_t neighbor) {
  const BondEnds ends =
      check_bond_ends(kOp, "bond_values", bond_values, pairs, row_ptr, order, order_ptr, center, neighbor);
  DTNN_CHECK(bond_values.size(0) == ends.num_bonds(), kOp,
             ": expected `bond_values` of shape [E, ...] with E = ", ends.num_bonds(), " as in `pairs`, got ",
             describe_shape(bond_values));
  return kernel(bond_values, ends);
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) { library.def(dtnn::bond_ends_schema("bond_to_atom_sum", "bond_values").c_str()); }
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) { library.impl("bond_to_atom_sum", TORCH_BOX(&dtnn::run<dtnn::bond_to_atom_sum_cpu>)); }
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("bond_to_atom_sum", TORCH_BOX(&dtnn::run<dtnn::bond_to_atom_sum_cuda>));
}
#endif
