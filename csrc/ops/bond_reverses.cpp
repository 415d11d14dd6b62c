// SPDX-License-Identifier: MIT
#include "ops/bond_reverses.h"

#include <torch/csrc/stable/library.h>

namespace dtnn {
namespace {

// The op on one device.
template <Tensor (*kernel)(const SortedBonds&)>
Tensor run(const Tensor& pairs, const Tensor& shifts, const Tensor& row_ptr) {
  return kernel(check_sorted_bonds("bond_reverses", pairs, shifts, row_ptr, "pairs", pairs));
}

}  // namespace
}  // namespace dtnn

STABLE_TORCH_LIBRARY_FRAGMENT(dtnn_fast, library) {
  library.def("bond_reverses(Tensor pairs, Tensor shifts, Tensor row_ptr) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, CPU, library) {
  library.impl("bond_reverses", TORCH_BOX(&dtnn::run<dtnn::bond_reverses_cpu>));
}
