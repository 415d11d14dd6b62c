// SPDX-License-Identifier: MIT
// The shared memory of one block: arrays of exact size, filled with NaN when a block starts, guarded at both ends.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace cuda_emulation {

class SharedArray {
 public:
  SharedArray(const void* tag, size_t bytes);
  void poison();
  bool intact() const;  // no write outside; AddressSanitizer, where on, reports it at once and reads too
  void* data() const { return data_; }
  const void* tag() const { return tag_; }
  size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(unsigned char* memory) const;
  };
  const void* tag_;
  size_t bytes_;
  std::unique_ptr<unsigned char, Free> memory_;
  unsigned char* data_;
};

// Arrays of a launch: the dynamic one, and the static ones in the order in which threads reach their declarations.
class SharedMemory {
 public:
  explicit SharedMemory(size_t dynamic_bytes) : dynamic_(nullptr, dynamic_bytes) {}
  void* dynamic() const { return dynamic_.data(); }
  void* find(const void* tag, size_t bytes);
  size_t static_bytes() const;
  void poison();
  bool intact() const;

 private:
  SharedArray dynamic_;
  std::vector<SharedArray> static_;
};

}  // namespace cuda_emulation
