// SPDX-License-Identifier: MIT
// Arguments that may be None.
#pragma once

#include <optional>

#include "check.h"

namespace dtnn {

using OptionalTensor = std::optional<Tensor>;

inline OptionalTensor contiguous(const OptionalTensor& tensor) {
  return tensor.has_value() ? OptionalTensor(torch::stable::contiguous(*tensor)) : std::nullopt;
}

template <typename T>
const T* data_or_null(const OptionalTensor& tensor) {
  return tensor.has_value() ? tensor->template const_data_ptr<T>() : nullptr;
}

}  // namespace dtnn
