// SPDX-License-Identifier: MIT
// Memory that is needed soon, fetched between the tiles of a matrix product. The arithmetic of a product leaves the
// memory system idle, and what comes before and after it waits for memory: so they overlap.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace dtnn {

class Prefetch {
 public:
  // Adds `count` elements that will be read or written; at most six ranges.
  template <typename T>
  void add(const T* begin, int64_t count) {
    if (count <= 0 || num_ranges_ == ranges_.size()) return;
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    ranges_[num_ranges_++] = {reinterpret_cast<const char*>(begin), (bytes + kLine - 1) / kLine, 0};
  }

  // Shares the lines of every range out among that many tiles.
  void share_out(int64_t num_tiles) {
    for (size_t r = 0; r < num_ranges_; ++r) {
      ranges_[r].per_tile = (ranges_[r].lines + num_tiles - 1) / std::max<int64_t>(1, num_tiles);
    }
  }

  // Fetches one tile's share of every range.
  inline __attribute__((always_inline)) void advance() {
    for (size_t r = 0; r < num_ranges_; ++r) {
      Range& range = ranges_[r];
      const int64_t now = std::min(range.per_tile, range.lines);
      for (int64_t k = 0; k < now; ++k) __builtin_prefetch(range.next + k * kLine);
      range.next += now * kLine;
      range.lines -= now;
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  struct Range {
    const char* next;
    int64_t lines;
    int64_t per_tile;
  };

  std::array<Range, 6> ranges_;
  size_t num_ranges_ = 0;
};

}  // namespace dtnn
