// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>

namespace dtnn {

// Memory that is written before it is read.
template <typename T>
std::unique_ptr<T[]> uninitialized(int64_t size) {
  return std::unique_ptr<T[]>(new T[static_cast<size_t>(size)]);
}

}  // namespace dtnn
