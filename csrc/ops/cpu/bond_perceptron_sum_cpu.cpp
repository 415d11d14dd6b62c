// SPDX-License-Identifier: MIT
#include <algorithm>
#include <vector>

#include "core/simd_level.h"
#include "ops/bond_perceptron_sum.h"
#include "ops/cpu/tensor_large_pages.h"
#include "ops/cpu/tile_blocks.h"

namespace dtnn {
namespace {

// The perceptron of a member.
struct Perceptron {
  TileProgram program;
  TileValueId value;
};

Perceptron make_perceptron(const BondPerceptrons& args, bool scalar_needs_grad, bool weights_need_grad) {
  const TileProgram program = bond_perceptron_program(args, scalar_needs_grad, weights_need_grad);
  return {program, program.outputs()[0]};
}

// The weights of all members one after the other, in the order of the program. [M, size]
template <typename T>
std::vector<T> flat_weights(const BondPerceptrons& args, int64_t size) {
  std::vector<T> flat(static_cast<size_t>(args.num_members() * size));
  T* to = flat.data();
  for (int64_t m = 0; m < args.num_members(); ++m) {
    for (const Tensor* part : {&args.weight1, &args.bias1, &args.weight2, &args.bias2}) {
      const int64_t count = part->numel() / args.num_members();
      to = std::copy_n(part->const_data_ptr<T>() + m * count, count, to);
    }
  }
  return flat;
}

// The bonds' ends and how much of a bond's value enters at each.
template <typename T>
struct Ends {
  const int64_t* centers;
  const int64_t* neighbors;
  const T* envelope;
  const T* center_factor;    // null: 1
  const T* neighbor_factor;  // null: 1
};

template <typename T>
Ends<T> ends_of(const BondPerceptrons& args) {
  const int64_t* pairs = args.pairs.const_data_ptr<int64_t>();
  const T* factors = data_or_null<T>(args.sum_scalar);
  const int64_t bonds = args.num_bonds();
  return {pairs, pairs + bonds, args.envelope.const_data_ptr<T>(), factors,
          factors == nullptr ? nullptr : factors + bonds};
}

// Adds the values [bonds, D] to the rows of their ends.
template <typename T>
DTNN_ALWAYS_INLINE void add_values(const Ends<T>& ends, TileRange bonds, int64_t channels, const T* values, T* sums) {
  for (int64_t e = bonds.first; e < bonds.last; ++e, values += channels) {
    const T center_factor = ends.center_factor == nullptr ? T(1) : ends.center_factor[e];
    const T neighbor_factor = ends.neighbor_factor == nullptr ? T(1) : ends.neighbor_factor[e];
    const T at_center = ends.envelope[e] * center_factor, at_neighbor = ends.envelope[e] * neighbor_factor;
    T* __restrict center = sums + ends.centers[e] * channels;
    for (int64_t d = 0; d < channels; ++d) center[d] += at_center * values[d];
    T* __restrict neighbor = sums + ends.neighbors[e] * channels;
    for (int64_t d = 0; d < channels; ++d) neighbor[d] += at_neighbor * values[d];
  }
}

// What enters the gradients of a tile's bonds, and where they go; null where a gradient is not needed.
template <typename T>
struct EndGrads {
  const T* grad_sums;  // [N, D]
  T* envelope;         // [E]
  T* factors;          // [2, E]
  int64_t num_bonds;
};

template <typename T>
DTNN_ALWAYS_INLINE T dot(const T* a, const T* b, int64_t channels) {
  constexpr int lanes = 16;
  T sums[lanes] = {};
  int64_t d = 0;
  for (; d + lanes <= channels; d += lanes) {
#pragma GCC unroll 16
    for (int l = 0; l < lanes; ++l) sums[l] += a[d + l] * b[d + l];
  }
  for (int l = 0; d < channels; ++d, ++l) sums[l] += a[d] * b[d];
  for (int l = 1; l < lanes; ++l) sums[0] += sums[l];
  return sums[0];
}

// The gradients of the values [bonds, D] from those of the sums. Those of the envelope and of the factors are added.
template <typename T>
DTNN_ALWAYS_INLINE void value_grads(const Ends<T>& ends, TileRange bonds, int64_t channels, const T* values,
                                    const EndGrads<T>& grads, T* __restrict grad_values) {
  for (int64_t e = bonds.first; e < bonds.last; ++e, values += channels, grad_values += channels) {
    const T center_factor = ends.center_factor == nullptr ? T(1) : ends.center_factor[e];
    const T neighbor_factor = ends.neighbor_factor == nullptr ? T(1) : ends.neighbor_factor[e];
    const T at_center = ends.envelope[e] * center_factor, at_neighbor = ends.envelope[e] * neighbor_factor;
    const T* __restrict center = grads.grad_sums + ends.centers[e] * channels;
    const T* __restrict neighbor = grads.grad_sums + ends.neighbors[e] * channels;
    for (int64_t d = 0; d < channels; ++d) grad_values[d] = at_center * center[d] + at_neighbor * neighbor[d];
    if (grads.envelope == nullptr && grads.factors == nullptr) continue;
    const T center_dot = dot(center, values, channels), neighbor_dot = dot(neighbor, values, channels);
    if (grads.envelope != nullptr) grads.envelope[e] += center_factor * center_dot + neighbor_factor * neighbor_dot;
    if (grads.factors != nullptr) {
      grads.factors[e] += ends.envelope[e] * center_dot;
      grads.factors[grads.num_bonds + e] += ends.envelope[e] * neighbor_dot;
    }
  }
}

DTNN_SIMD_VERSIONS(void, add_bond_values, add_values,
                   (const Ends<float>& ends, TileRange bonds, int64_t channels, const float* values, float* sums),
                   (ends, bonds, channels, values, sums))
DTNN_SIMD_VERSIONS(void, add_bond_values, add_values,
                   (const Ends<double>& ends, TileRange bonds, int64_t channels, const double* values, double* sums),
                   (ends, bonds, channels, values, sums))
DTNN_SIMD_VERSIONS(void, bond_value_grads, value_grads,
                   (const Ends<float>& ends, TileRange bonds, int64_t channels, const float* values,
                    const EndGrads<float>& grads, float* grad_values),
                   (ends, bonds, channels, values, grads, grad_values))
DTNN_SIMD_VERSIONS(void, bond_value_grads, value_grads,
                   (const Ends<double>& ends, TileRange bonds, int64_t channels, const double* values,
                    const EndGrads<double>& grads, double* grad_values),
                   (ends, bonds, channels, values, grads, grad_values))

// Atoms that share no bond with other atoms, with their bonds: one crystal or some.
struct ClosedBlock {
  TileRange atoms;
  TileRange bonds;
};

// Cuts the atoms where no bond crosses, into blocks of at least `min_bonds` bonds where that is possible. Each block's
// sums are complete without the others.
std::vector<ClosedBlock> closed_blocks(const char* op, const BondPerceptrons& args, int64_t min_bonds) {
  const int64_t num_bonds = args.num_bonds(), num_atoms = args.num_atoms();
  const int64_t* centers = args.pairs.const_data_ptr<int64_t>();
  const int64_t* neighbors = centers + num_bonds;
  const int64_t* row_ptr = args.row_ptr.const_data_ptr<int64_t>();
  DTNN_CHECK(row_ptr[0] == 0 && row_ptr[num_atoms] == num_bonds, op,
             ": expected `row_ptr` from 0 to the number of bonds, ", num_bonds, ", got ", row_ptr[0], " to ",
             row_ptr[num_atoms]);
  // Bonds that cross the cut before atom n, as differences along n.
  std::vector<int64_t> crossing(static_cast<size_t>(num_atoms) + 2, 0);
  for (int64_t n = 0; n < num_atoms; ++n) {
    const int64_t first = row_ptr[n], last = row_ptr[n + 1];
    bool good = first >= 0 && first <= last && last <= num_bonds;
    for (int64_t e = first; good && e < last; ++e) {
      const int64_t neighbor = neighbors[e];
      good = centers[e] == n && neighbor >= 0 && neighbor < num_atoms;
      if (!good) break;
      ++crossing[static_cast<size_t>(std::min(n, neighbor) + 1)];
      --crossing[static_cast<size_t>(std::max(n, neighbor) + 1)];
    }
    DTNN_CHECK(good, op, ": expected `pairs` sorted by center as `row_ptr` says, with atoms in [0, ", num_atoms,
               "), got a bond in another atom's segment or an index out of range at atom ", n);
  }
  std::vector<ClosedBlock> blocks;
  int64_t open = 0, first_atom = 0;
  for (int64_t n = 1; n <= num_atoms; ++n) {
    open += crossing[static_cast<size_t>(n)];
    const bool enough = row_ptr[n] - row_ptr[first_atom] >= min_bonds;
    if (open != 0 || !(enough || n == num_atoms)) continue;
    blocks.push_back({{first_atom, n}, {row_ptr[first_atom], row_ptr[n]}});
    first_atom = n;
  }
  return blocks;
}

template <typename T>
void run_forward(const BondPerceptrons& args, Tensor& sums, Tensor& envelope_sum) {
  constexpr int64_t min_bonds = 768, enough_tasks = 16;
  const Perceptron perceptron = make_perceptron(args, false, false);
  const int64_t size = perceptron.program.num_weights(), channels = args.channels(), outputs = args.outputs();
  const int64_t members = args.num_members(), num_atoms = args.num_atoms();
  const std::vector<T> weights = flat_weights<T>(args, size);
  const std::vector<Bf16Terms> bf16 = bf16_weights(perceptron.program, weights.data(), members, args.precision, false);
  const std::vector<ClosedBlock> blocks = closed_blocks("bond_perceptron_sum", args, min_bonds);
  const int64_t num_blocks = static_cast<int64_t>(blocks.size());
  const int64_t tile = rows_per_tile(perceptron.program, false);
  const Ends<T> ends = ends_of<T>(args);
  const T* x = args.bond_scalar.const_data_ptr<T>();
  T* out = sums.mutable_data_ptr<T>();
  T* envelope_out = envelope_sum.mutable_data_ptr<T>();

  // A tile serves all members while it is in the cache. Few blocks are shared out by members too: that changes who
  // computes a sum, not its terms.
  const int64_t parts = num_blocks >= enough_tasks ? 1 : std::max<int64_t>(1, members);
  torch::stable::parallel_for(0, num_blocks * parts, 1, [&](int64_t first_task, int64_t last_task) {
    TileRunner<T> runner(perceptron.program, tile, false);
    TileMemory<T> memory;
    memory.inputs = {nullptr};
    for (int64_t task = first_task; task < last_task; ++task) {
      const ClosedBlock& block = blocks[static_cast<size_t>(task / parts)];
      const int64_t part = task % parts;
      const TileRange mine{part * members / parts, (part + 1) * members / parts};
      for (int64_t m = mine.first; m < mine.last; ++m) {
        std::fill_n(out + (m * num_atoms + block.atoms.first) * outputs, block.atoms.size() * outputs, T(0));
      }
      if (part == 0) {
        const T one = 1;
        std::fill_n(envelope_out + block.atoms.first, block.atoms.size(), T(0));
        for (int64_t e = block.bonds.first; e < block.bonds.last; ++e)
          add_values(ends, {e, e + 1}, 1, &one, envelope_out);
      }
      for (int64_t first = block.bonds.first; first < block.bonds.last; first += tile) {
        const TileRange bonds{first, std::min(first + tile, block.bonds.last)};
        memory.inputs[0] = x + first * channels;
        for (int64_t m = mine.first; m < mine.last; ++m) {
          memory.weights = weights.data() + m * size;
          memory.bf16 = member_of(bf16, m);
          runner.forward(memory, bonds.size());
          add_bond_values(ends, bonds, outputs, runner.value(perceptron.value), out + m * num_atoms * outputs);
        }
      }
    }
  });
}

// The gradient of the flat weights, back to the parameters.
template <typename T>
void split_weights(const BondPerceptrons& args, const std::vector<T>& flat, BondPerceptronGrads& grads) {
  const T* from = flat.data();
  for (int64_t m = 0; m < args.num_members(); ++m) {
    for (Tensor* part : {&grads.weight1, &grads.bias1, &grads.weight2, &grads.bias2}) {
      const int64_t count = part->numel() / args.num_members();
      std::copy_n(from, count, part->mutable_data_ptr<T>() + m * count);
      from += count;
    }
  }
}

// The gradients of the envelope and of the factors through the sum of the envelope, where these sums start.
template <typename T>
void envelope_sum_grads(const Ends<T>& ends, TileRange bonds, const T* grad_envelope_sum, const EndGrads<T>& grads) {
  for (int64_t e = bonds.first; e < bonds.last; ++e) {
    const T center_factor = ends.center_factor == nullptr ? T(1) : ends.center_factor[e];
    const T neighbor_factor = ends.neighbor_factor == nullptr ? T(1) : ends.neighbor_factor[e];
    const T at_center = grad_envelope_sum == nullptr ? T(0) : grad_envelope_sum[ends.centers[e]];
    const T at_neighbor = grad_envelope_sum == nullptr ? T(0) : grad_envelope_sum[ends.neighbors[e]];
    if (grads.envelope != nullptr) grads.envelope[e] = center_factor * at_center + neighbor_factor * at_neighbor;
    if (grads.factors == nullptr) continue;
    grads.factors[e] = ends.envelope[e] * at_center;
    grads.factors[grads.num_bonds + e] = ends.envelope[e] * at_neighbor;
  }
}

template <typename T>
void run_backward(const BondPerceptrons& args, BondPerceptronGrads& grads) {
  closed_blocks("bond_perceptron_sum_backward", args, args.num_bonds());  // for its checks
  const Perceptron perceptron = make_perceptron(args, grads.need_scalar, grads.need_weights);
  const int64_t size = perceptron.program.num_weights(), channels = args.channels(), outputs = args.outputs();
  const int64_t members = args.num_members(), num_atoms = args.num_atoms(), num_bonds = args.num_bonds();
  const std::vector<T> weights = flat_weights<T>(args, size);
  std::vector<T> weights_t = weights;
  for (int64_t m = 0; m < members; ++m) {
    transpose_weights(perceptron.program, weights.data() + m * size, weights_t.data() + m * size);
  }
  const std::vector<Bf16Terms> bf16 = bf16_weights(perceptron.program, weights.data(), members, args.precision, true);
  const int64_t tile = rows_per_tile(perceptron.program, true);
  const Ends<T> ends = ends_of<T>(args);
  const T* x = args.bond_scalar.const_data_ptr<T>();
  const T* grad_sums = data_or_null<T>(grads.grad_sums);
  const T* grad_envelope_sum = data_or_null<T>(grads.grad_envelope_sum);
  T* grad_x = grads.need_scalar ? grads.scalar.mutable_data_ptr<T>() : nullptr;
  T* grad_envelope = grads.need_envelope ? grads.envelope.mutable_data_ptr<T>() : nullptr;
  T* grad_factors = grads.need_sum_scalar ? grads.sum_scalar.mutable_data_ptr<T>() : nullptr;
  std::vector<T> grad_weights(static_cast<size_t>(grads.need_weights ? members * size : 0));

  struct State {
    TileRunner<T> runner;
    std::vector<T> grad_values;
  };
  const auto make_state = [&] {
    return State{TileRunner<T>(perceptron.program, tile, true), std::vector<T>(static_cast<size_t>(tile * outputs))};
  };
  const auto backward_tile = [&](TileRange bonds, State& state, T* group_grads) {
    TileMemory<T> memory;
    memory.inputs = {x + bonds.first * channels};
    memory.grad_outputs = {state.grad_values.data()};
    memory.grad_inputs = {grad_x == nullptr ? nullptr : grad_x + bonds.first * channels};
    envelope_sum_grads(ends, bonds, grad_envelope_sum, EndGrads<T>{nullptr, grad_envelope, grad_factors, num_bonds});
    if (grad_x != nullptr && (members == 0 || grad_sums == nullptr)) {
      std::fill_n(grad_x + bonds.first * channels, bonds.size() * channels, T(0));
    }
    if (grad_sums == nullptr) return;
    for (int64_t m = 0; m < members; ++m) {
      memory.weights = weights.data() + m * size;
      memory.weights_t = weights_t.data() + m * size;
      memory.bf16 = member_of(bf16, m);
      memory.grad_weights = group_grads + m * size;
      memory.add_to = {m > 0};
      state.runner.forward(memory, bonds.size());
      const EndGrads<T> end_grads{grad_sums + m * num_atoms * outputs, grad_envelope, grad_factors, num_bonds};
      bond_value_grads(ends, bonds, outputs, state.runner.value(perceptron.value), end_grads, state.grad_values.data());
      if (grad_x != nullptr || grads.need_weights) state.runner.backward(memory, bonds.size());
    }
  };
  for_each_tile_in_groups(args.num_bonds(), tile, grad_weights.data(), static_cast<int64_t>(grad_weights.size()),
                          make_state, backward_tile);
  if (grads.need_weights) split_weights(args, grad_weights, grads);
}

}  // namespace

void bond_perceptron_sum_cpu(const BondPerceptrons& args, Tensor& sums, Tensor& envelope_sum) {
  advise_large_pages(sums);
  if (args.bond_scalar.scalar_type() == ScalarType::Float) return run_forward<float>(args, sums, envelope_sum);
  return run_forward<double>(args, sums, envelope_sum);
}

void bond_perceptron_sum_backward_cpu(const BondPerceptrons& args, BondPerceptronGrads& grads) {
  if (grads.need_scalar) advise_large_pages(grads.scalar);
  if (args.bond_scalar.scalar_type() == ScalarType::Float) return run_backward<float>(args, grads);
  return run_backward<double>(args, grads);
}

}  // namespace dtnn
