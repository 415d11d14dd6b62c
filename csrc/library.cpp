// SPDX-License-Identifier: MIT
// The torch library `dtnn_fast`. Each operation adds its schema and kernels in its own file (csrc/ops/<op>.cpp).
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

namespace {

// Whether this binary holds CUDA kernels.
bool has_cuda_kernels() {
#ifdef DTNN_WITH_CUDA
  return true;
#else
  return false;
#endif
}

}  // namespace

STABLE_TORCH_LIBRARY(dtnn_fast, library) { library.def("has_cuda_kernels() -> bool"); }

STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, CompositeExplicitAutograd, library) {
  library.impl("has_cuda_kernels", TORCH_BOX(&has_cuda_kernels));
}
