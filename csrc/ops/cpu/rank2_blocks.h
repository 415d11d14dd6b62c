// SPDX-License-Identifier: MIT
// How the CPU kernels of rank2_linear and rank2_gate walk over atoms. A step is a few rows that stay in the first level
// of the cache between the product and what is fused with it; while one is multiplied, the memory of the next is
// fetched. A block is some steps that stay in the second level: the gradient of the weight sums over its rows. Steps
// and blocks depend on the shape alone, never on the number of threads, and so do the results.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "core/small_matmul.h"
#include "core/uninitialized.h"
#include "ops/rank2_linear.h"

namespace dtnn {

struct AtomRange {
  int64_t first;
  int64_t last;

  int64_t size() const { return last - first; }
};

inline int64_t elements_per_row(const Rank2Shape& shape) {
  return std::max<int64_t>(1, shape.channels_in + shape.channels_out);
}

// At least two tiles of 12 rows (two or four of 6), and 16 KiB of x and y in float32: memory is fetched a step ahead.
inline int64_t atoms_per_step(const Rank2Shape& shape) {
  const int64_t rows = std::max<int64_t>(24, 4096 / elements_per_row(shape) / 12 * 12);
  return std::max<int64_t>(1, rows / shape.components);
}

// 128 KiB of x and y in float32.
inline int64_t steps_per_block(const Rank2Shape& shape) {
  return std::max<int64_t>(1, 32768 / elements_per_row(shape) / (atoms_per_step(shape) * shape.components));
}

// Calls step(atoms, next_atoms, scratch) for all steps, on all threads; scratch holds scratch_per_atom numbers for each
// atom of a step.
template <typename T, typename Step>
void for_each_step(const Rank2Shape& shape, int64_t scratch_per_atom, const Step& step) {
  const int64_t size = atoms_per_step(shape), num_atoms = shape.num_atoms;
  const int64_t num_steps = (num_atoms + size - 1) / size;
  torch::stable::parallel_for(0, num_steps, steps_per_block(shape), [&](int64_t first, int64_t last) {
    const std::unique_ptr<T[]> scratch = uninitialized<T>(size * scratch_per_atom);
    for (int64_t s = first; s < last; ++s) {
      const int64_t end = std::min((s + 1) * size, num_atoms);
      step(AtomRange{s * size, end}, AtomRange{end, std::min(end + size, num_atoms)}, scratch.get());
    }
  });
}

// Inputs and outputs of the backward of a channel mixing; gradients that are not wanted are null.
template <typename T>
struct MixBackward {
  const T* x;
  const PackedMatrix<T>* weight;  // [D, C]
  T* grad_x;
  T* grad_weight;
};

// grad_weight [D, C] = (grad_weight +) total [rows, D]^T times x [rows, C].
template <typename T>
void add_weight_grad(const Rank2Shape& shape, const T* total, const T* x, T* grad_weight, int64_t rows, bool accumulate,
                     Prefetch& ahead) {
  const int64_t in = shape.channels_in, out = shape.channels_out;
  multiply(SmallMatmul<T>{total, 1, out, x, in, grad_weight, in, out, in, rows, accumulate}, ahead);
}

// The gradients of x and of the weight from the gradient of y, `total`, which comes from the caller step by step:
//   compute_total(atoms, scratch) returns total [atoms, K, D], in scratch or in memory where all atoms stand one after
//   the other; fetch(atoms, prefetch) names the memory that compute_total works on.
// Blocks are summed in a fixed number of groups, and the groups in order.
template <typename T, typename ComputeTotal, typename Fetch>
void mix_backward(const Rank2Shape& shape, const MixBackward<T>& job, const ComputeTotal& compute_total,
                  const Fetch& fetch) {
  constexpr int64_t max_groups = 32, blocks_per_group = 4;
  const int64_t k = shape.components, c = shape.channels_in, d = shape.channels_out;
  const int64_t step = atoms_per_step(shape), block = step * steps_per_block(shape);
  const int64_t num_blocks = (shape.num_atoms + block - 1) / block;
  const int64_t num_groups = std::clamp<int64_t>(num_blocks / blocks_per_group, 1, max_groups);
  const int64_t size = job.grad_weight == nullptr ? 0 : c * d;
  const std::unique_ptr<T[]> partial = uninitialized<T>((num_groups - 1) * size);  // of all groups but the first

  const auto process_block = [&](AtomRange atoms, T* scratch, T* grad_weight, bool accumulate) {
    const T* total = nullptr;
    for (int64_t first = atoms.first; first < atoms.last; first += step) {
      const AtomRange now{first, std::min(first + step, atoms.last)};
      const T* step_total = compute_total(now, scratch + (first - atoms.first) * k * d);
      if (total == nullptr) total = step_total;
      if (job.grad_x == nullptr) continue;
      Prefetch ahead;
      if (size > 0) ahead.add(job.x + now.first * k * c, now.size() * k * c);
      const AtomRange next{now.last, std::min(now.last + step, shape.num_atoms)};
      ahead.add(job.grad_x + next.first * k * c, next.size() * k * c);
      if (size == 0 || next.first < atoms.last) fetch(next, ahead);
      multiply(step_total, *job.weight, job.grad_x + now.first * k * c, now.size() * k, ahead);
    }
    if (size == 0) return;
    Prefetch ahead;
    fetch(AtomRange{atoms.last, std::min(atoms.last + block, shape.num_atoms)}, ahead);
    add_weight_grad(shape, total, job.x + atoms.first * k * c, grad_weight, atoms.size() * k, accumulate, ahead);
  };

  torch::stable::parallel_for(0, num_groups, 1, [&](int64_t first_group, int64_t last_group) {
    const std::unique_ptr<T[]> scratch = uninitialized<T>(block * k * d);
    for (int64_t g = first_group; g < last_group; ++g) {
      T* grad_weight = g == 0 ? job.grad_weight : partial.get() + (g - 1) * size;
      const int64_t first = g * num_blocks / num_groups, last = (g + 1) * num_blocks / num_groups;
      for (int64_t b = first; b < last; ++b) {
        process_block({b * block, std::min((b + 1) * block, shape.num_atoms)}, scratch.get(), grad_weight, b > first);
      }
    }
  });
  if (size > 0 && num_blocks == 0) std::fill_n(job.grad_weight, size, T(0));
  for (int64_t g = 0; g + 1 < num_groups; ++g) {
    for (int64_t p = 0; p < size; ++p) job.grad_weight[p] += partial[g * size + p];
  }
}

}  // namespace dtnn
