// SPDX-License-Identifier: MIT
// Shapes that are known in numbers: the message gives letters and numbers.
#pragma once

#include <string>

#include "check.h"

namespace dtnn {

// Checks that `tensor` has exactly `sizes`; `letters` says what they are, as in "[M, H]".
inline void check_sizes(const char* op, const char* name, const Tensor& tensor, const char* letters,
                        std::initializer_list<int64_t> sizes) {
  std::string wanted = std::string(letters) + " = [";
  bool first = true;
  for (int64_t size : sizes) {
    wanted += (first ? "" : ", ") + std::to_string(size);
    first = false;
  }
  check_shape(op, name, tensor, (wanted + "]").c_str(), sizes);
}

}  // namespace dtnn
