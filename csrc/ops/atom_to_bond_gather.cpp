// SPDX-License-Identifier: MIT
#include "ops/atom_to_bond_gather.h"

#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "ops/bond_ends_cuda.h"
#include "ops/cuda/atom_to_bond_gather.h"
#endif

namespace dtnn {
namespace {

constexpr const char* kOp = "atom_to_bond_gather";

#ifdef DTNN_WITH_CUDA
Tensor atom_to_bond_gather_cuda(const Tensor& atom_values, const BondEnds& ends) {
  const int64_t num_bonds = ends.num_bonds();
  // Without atoms no index can be right; the kernel has nothing to put in its place.
  DTNN_CHECK(ends.num_atoms() > 0 || num_bonds == 0, kOp,
             ": expected `pairs` with atoms in [0, 0), got an index outside");
  return for_bond_ends_type(atom_values.scalar_type(), [&](auto type) {
    return launch_on_bond_ends<decltype(type)>(kOp, cuda::launch_atom_to_bond_gather, atom_values, ends, num_bonds);
  });
}
#endif

// The op on one device.
template <Tensor (*kernel)(const Tensor&, const BondEnds&)>
Tensor run(const Tensor& atom_values, const Tensor& pairs, const Tensor& row_ptr, const OptionalTensor& order,
           const OptionalTensor& order_ptr, int64_t center, int64_t neighbor) {
  const BondEnds ends =
      check_bond_ends(kOp, "atom_values", atom_values, pairs, row_ptr, order, order_ptr, center, neighbor);
  DTNN_CHECK(atom_values.size(0) == ends.num_atoms(), kOp,
             ": expected `atom_values` of shape [N, ...] with N = ", ends.num_atoms(), " as in `row_ptr`, got ",
             describe_shape(atom_values));
  return kernel(atom_values, ends);
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) { library.def(dtnn::bond_ends_schema("atom_to_bond_gather", "atom_values").c_str()); }
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("atom_to_bond_gather", TORCH_BOX(&dtnn::run<dtnn::atom_to_bond_gather_cpu>));
}
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("atom_to_bond_gather", TORCH_BOX(&dtnn::run<dtnn::atom_to_bond_gather_cuda>));
}
#endif
