// SPDX-License-Identifier: MIT
// Registration of the operations with torch, once in a process. torch's own macros end the process when a second copy
// of this library is loaded, for example the one that is shipped beside an AOTInductor package.
#pragma once

#include <torch/csrc/stable/library.h>

namespace dtnn {

// False in a copy of this library that was loaded when another one had registered its operations. That copy registers
// nothing and says so on stderr.
bool is_registered_copy();

}  // namespace dtnn

// STABLE_TORCH_LIBRARY_FRAGMENT and STABLE_TORCH_LIBRARY_IMPL for the namespace dtnn_fast.
#define DTNN_LIBRARY_FRAGMENT(library) \
  DTNN_REGISTER(STABLE_TORCH_LIBRARY_FRAGMENT(dtnn_fast, fragment), library, C10_UID)
#define DTNN_LIBRARY_IMPL(key, library) \
  DTNN_REGISTER(STABLE_TORCH_LIBRARY_IMPL(dtnn_fast, key, fragment), library, C10_UID)
#define DTNN_REGISTER(torch_macro, library, uid)                                                    \
  static void C10_CONCATENATE(dtnn_register_, uid)(torch::stable::detail::StableLibrary & library); \
  torch_macro {                                                                                     \
    if (dtnn::is_registered_copy()) C10_CONCATENATE(dtnn_register_, uid)(fragment);                 \
  }                                                                                                 \
  static void C10_CONCATENATE(dtnn_register_, uid)(torch::stable::detail::StableLibrary & library)
