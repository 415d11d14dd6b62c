// SPDX-License-Identifier: MIT
// How the CPU kernels of rank2_linear and rank2_gate walk over atoms: in blocks whose rows stay in cache, so that the
// product and everything fused with it read and write memory once. Blocks depend on the shape alone, never on the
// number of threads, and so do the results.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/small_matmul.h"
#include "ops/rank2_linear.h"

namespace dtnn {

inline int64_t atoms_per_block(const Rank2Shape& shape) {
  const int64_t elements_per_atom = std::max<int64_t>(1, shape.components * (shape.channels_in + shape.channels_out));
  return std::max<int64_t>(1, 32768 / elements_per_atom);
}

// y [rows, D] = x [rows, C] times weight_t [C, D].
template <typename T>
void mix_rows(const Rank2Shape& shape, const T* x, const T* weight_t, T* y, int64_t rows) {
  const int64_t in = shape.channels_in, out = shape.channels_out;
  multiply(SmallMatmul<T>{x, in, 1, weight_t, out, y, out, rows, out, in, false});
}

// grad_x [rows, C] = grad_y [rows, D] times weight [D, C].
template <typename T>
void mix_rows_back(const Rank2Shape& shape, const T* grad_y, const T* weight, T* grad_x, int64_t rows) {
  const int64_t in = shape.channels_in, out = shape.channels_out;
  multiply(SmallMatmul<T>{grad_y, out, 1, weight, in, grad_x, in, rows, in, out, false});
}

// grad_weight [D, C] += grad_y [rows, D]^T times x [rows, C].
template <typename T>
void add_weight_grad(const Rank2Shape& shape, const T* grad_y, const T* x, T* grad_weight, int64_t rows) {
  const int64_t in = shape.channels_in, out = shape.channels_out;
  multiply(SmallMatmul<T>{grad_y, 1, out, x, in, grad_weight, in, out, in, rows, true});
}

// Calls block(first_atom, last_atom, scratch) for all blocks, on all threads; scratch holds one block of [.., K, D].
template <typename T, typename Block>
void for_each_block(const Rank2Shape& shape, const Block& block) {
  const int64_t step = atoms_per_block(shape);
  const int64_t num_blocks = (shape.num_atoms + step - 1) / step;
  torch::stable::parallel_for(0, num_blocks, 1, [&](int64_t first, int64_t last) {
    std::vector<T> scratch(step * shape.components * shape.channels_out);
    for (int64_t b = first; b < last; ++b) block(b * step, std::min((b + 1) * step, shape.num_atoms), scratch.data());
  });
}

// As for_each_block, for blocks that also add to the gradient of the weight: block(first, last, scratch, grad_weight).
// Blocks are summed in a fixed number of groups, and the groups in order.
template <typename T, typename Block>
void sum_weight_grad(const Rank2Shape& shape, T* grad_weight, const Block& block) {
  constexpr int64_t max_groups = 32;
  const int64_t step = atoms_per_block(shape);
  const int64_t num_blocks = (shape.num_atoms + step - 1) / step;
  const int64_t num_groups = std::min(max_groups, num_blocks);
  const int64_t size = shape.channels_in * shape.channels_out;
  std::vector<T> partial(num_groups * size, T(0));
  torch::stable::parallel_for(0, num_groups, 1, [&](int64_t first, int64_t last) {
    std::vector<T> scratch(step * shape.components * shape.channels_out);
    for (int64_t g = first; g < last; ++g) {
      for (int64_t b = g * num_blocks / num_groups; b < (g + 1) * num_blocks / num_groups; ++b) {
        block(b * step, std::min((b + 1) * step, shape.num_atoms), scratch.data(), partial.data() + g * size);
      }
    }
  });
  std::fill(grad_weight, grad_weight + size, T(0));
  for (int64_t g = 0; g < num_groups; ++g) {
    for (int64_t p = 0; p < size; ++p) grad_weight[p] += partial[g * size + p];
  }
}

}  // namespace dtnn
