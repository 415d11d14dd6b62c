// SPDX-License-Identifier: MIT
// Large outputs on large pages; see core/large_pages.h.
#pragma once

#include "check.h"
#include "core/large_pages.h"

namespace dtnn {

// Before the new tensor is written.
inline void advise_large_pages(Tensor& tensor) {
  advise_large_pages(tensor.mutable_data_ptr(),
                     static_cast<size_t>(tensor.numel()) * static_cast<size_t>(tensor.element_size()));
}

}  // namespace dtnn
