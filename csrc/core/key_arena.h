// SPDX-License-Identifier: MIT
// Memory for the keys of bonds whose number is not known before they are found: blocks that fill up one after another,
// so that keys stay where they are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "large_pages.h"

namespace dtnn {

class KeyArena {
 public:
  // What is left of a block.
  struct Space {
    int32_t* begin = nullptr;
    int32_t* end = nullptr;
    int64_t size() const { return end - begin; }
  };

  // Space that no other thread has, perhaps none.
  Space borrow() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return {};
    const Space space = free_.back();
    free_.pop_back();
    return space;
  }

  // Space for `count` keys or more.
  Space grow(int64_t count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t size = std::max(count, block_size_);
    block_size_ = std::min(2 * block_size_, kLargestBlock);
    const size_t bytes = sizeof(int32_t) * static_cast<size_t>(size);
    const bool large = bytes >= kLargePage;
    void* memory = large ? ::operator new(bytes, std::align_val_t(kLargePage)) : ::operator new(bytes);
    blocks_.push_back({memory, Delete{large}});
    if (large) advise_large_pages(memory, bytes);
    int32_t* begin = static_cast<int32_t*>(memory);
    return {begin, begin + size};
  }

  void give_back(Space space) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(space);
  }

 private:
  static constexpr int64_t kLargestBlock = (4 << 20) / sizeof(int32_t);

  struct Delete {
    bool large;
    void operator()(void* memory) const {
      if (large) {
        ::operator delete(memory, std::align_val_t(kLargePage));
      } else {
        ::operator delete(memory);
      }
    }
  };

  std::mutex mutex_;
  int64_t block_size_ = 1 << 14;
  std::vector<std::unique_ptr<void, Delete>> blocks_;
  std::vector<Space> free_;
};

}  // namespace dtnn
