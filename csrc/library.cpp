// SPDX-License-Identifier: MIT
// The torch library `dtnn_fast`. Each operation adds its schema and kernels in its own file (csrc/ops/<op>.cpp).
#include <dlfcn.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdio>
#include <string>

#include "registration.h"

namespace dtnn {
namespace {

// The file of this copy of the library.
std::string library_path() {
  Dl_info info{};
  return dladdr(reinterpret_cast<const void*>(&is_registered_copy), &info) != 0 ? info.dli_fname : "";
}

// torch refuses a second definition of the namespace. The handle is kept: the operations live as long as the process.
bool define_namespace() {
  TorchLibraryHandle handle = nullptr;
  if (aoti_torch_library_init_def("dtnn_fast", __FILE__, __LINE__, &handle) == AOTI_TORCH_SUCCESS) return true;
  std::fprintf(stderr,
               "dtnn_fast: the operations are registered already, by another copy of this library; %s does nothing\n",
               library_path().c_str());
  return false;
}

// Whether this binary holds CUDA kernels.
bool has_cuda_kernels() {
#ifdef DTNN_WITH_CUDA
  return true;
#else
  return false;
#endif
}

}  // namespace

bool is_registered_copy() {
  static const bool is_registered = define_namespace();
  return is_registered;
}

}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def("has_cuda_kernels() -> bool");
  library.def("library_path() -> str");
}
DTNN_LIBRARY_IMPL(CompositeExplicitAutograd, library) {
  library.impl("has_cuda_kernels", TORCH_BOX(&dtnn::has_cuda_kernels));
  library.impl("library_path", TORCH_BOX(&dtnn::library_path));
}
