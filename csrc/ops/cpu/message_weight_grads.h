// SPDX-License-Identifier: MIT
// Gradients of the weights of bond_messages: sums over tiles in a fixed number of groups, so that the bits do not
// depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/small_matmul.h"
#include "ops/bond_messages.h"

namespace dtnn {

// The gradients of the four weights, one after the other.
template <typename T>
struct WeightGrads {
  T* hidden;
  T* hidden_bias;
  T* out;
  T* out_bias;

  static int64_t size(const MessageShape& s) {
    return s.hidden * s.features() + s.hidden + s.outputs() * s.hidden + s.outputs();
  }
  WeightGrads(T* start, const MessageShape& s)
      : hidden(start),
        hidden_bias(hidden + s.hidden * s.features()),
        out(hidden_bias + s.hidden),
        out_bias(out + s.outputs() * s.hidden) {}
};

// out [m, n] += left [rows, m]^T times right [rows, n].
template <typename T>
void add_outer_products(const T* left, int64_t m, const T* right, int64_t n, int64_t rows, T* out) {
  Prefetch nothing;
  multiply(SmallMatmul<T>{left, 1, m, right, n, out, n, m, n, rows, true}, nothing);
}

// Sums of the weights' gradients: a fixed number of groups of tiles, then the groups in order.
template <typename T, typename Scratch>
class GroupedWeightGrads {
 public:
  GroupedWeightGrads(const MessageShape& shape, bool needed) : shape_(shape), needed_(needed) {
    if (needed) total_.assign(WeightGrads<T>::size(shape), T(0));
  }

  // Calls work(item, scratch, weights) for every item, on all threads; weights is null where none are needed.
  template <typename Work>
  void for_each(int64_t num_items, const Work& work) {
    constexpr int64_t max_groups = 16;
    const int64_t num_groups = std::min(num_items, max_groups);
    const int64_t size = needed_ ? WeightGrads<T>::size(shape_) : 0;
    std::vector<T> partial(num_groups * size, T(0));
    torch::stable::parallel_for(0, num_groups, 1, [&](int64_t first_group, int64_t last_group) {
      Scratch scratch(shape_);
      for (int64_t g = first_group; g < last_group; ++g) {
        WeightGrads<T> weights(partial.data() + g * size, shape_);
        const int64_t last = (g + 1) * num_items / num_groups;
        for (int64_t k = g * num_items / num_groups; k < last; ++k) work(k, scratch, needed_ ? &weights : nullptr);
      }
    });
    for (int64_t g = 0; g < num_groups; ++g) {
      for (int64_t k = 0; k < size; ++k) total_[k] += partial[g * size + k];
    }
  }

  void copy_to(MessageGrads& grads) {
    if (!needed_) return;
    const WeightGrads<T> total(total_.data(), shape_);
    const auto copy = [](const T* from, Tensor& to) { std::copy_n(from, to.numel(), to.mutable_data_ptr<T>()); };
    copy(total.hidden, grads.hidden_weight);
    copy(total.hidden_bias, grads.hidden_bias);
    copy(total.out, grads.out_weight);
    copy(total.out_bias, grads.out_bias);
  }

 private:
  MessageShape shape_;
  bool needed_;
  std::vector<T> total_;
};

}  // namespace dtnn
