// SPDX-License-Identifier: MIT
#include <algorithm>
#include <vector>

#include "ops/cpu/tensor_large_pages.h"
#include "ops/cpu/tile_blocks.h"
#include "ops/decode_program.h"

namespace dtnn {
namespace {

void check_values(const char* op, const DecodeArgs& args, const TileProgram& program) {
  check_num_weights(op, args, program);
  const int64_t* ptr = args.ptr.const_data_ptr<int64_t>();
  const int64_t crystals = args.sizes.crystals;
  bool rises = ptr[0] == 0 && ptr[crystals] == args.sizes.atoms;
  for (int64_t b = 0; rises && b < crystals; ++b) rises = ptr[b] < ptr[b + 1];
  DTNN_CHECK(rises, op, ": expected `ptr` that rises from 0 to the number of atoms, ", args.sizes.atoms,
             ", with at least one atom a crystal, got another");
}

// The addresses of an input of all members, and of its gradient (null where it is not needed).
template <typename T>
struct Stream {
  const T* values;
  T* grads;
  int64_t per_row;
  int64_t member_stride;  // 0: shared by the members
};

template <typename T>
std::vector<Stream<T>> input_streams(const DecodeArgs& args, const DecodeNeeds& needs, DecodeGrads* grads) {
  const DecodeSizes& sizes = args.sizes;
  const int64_t slab = sizes.atoms * sizes.latent;
  std::vector<Stream<T>> streams;
  const auto add = [&](const Tensor& values, Tensor* grad, bool needed, int64_t per_row, int64_t member_stride,
                       int64_t offset) {
    T* grad_start = needed && grads != nullptr ? grad->mutable_data_ptr<T>() + offset : nullptr;
    streams.push_back({values.const_data_ptr<T>() + offset, grad_start, per_row, member_stride});
  };
  add(args.scalar, grads ? &grads->scalar : nullptr, needs.atoms, sizes.scalar, 0, 0);
  add(args.vector, grads ? &grads->vector : nullptr, needs.atoms, 3 * sizes.vector, 0, 0);
  add(args.rank2, grads ? &grads->rank2 : nullptr, needs.atoms, 6 * sizes.rank2, 0, 0);
  if (args.bond_vector.has_value()) {
    add(*args.bond_vector, grads ? &grads->bond_vector : nullptr, needs.bonds, 3 * sizes.bond_vector, 0, 0);
    add(*args.envelope_sum, grads ? &grads->envelope_sum : nullptr, needs.bonds, 1, 0, 0);
    for (int64_t l = 0; l < sizes.blocks; ++l) {
      add(*args.bond_sums, grads ? &grads->bond_sums : nullptr, needs.bonds, sizes.latent, sizes.blocks * slab,
          l * slab);
    }
  }
  if (args.masks.has_value()) {
    const int64_t count = sizes.num_masks();
    for (int64_t d = 0; d < count; ++d) {
      add(*args.masks, grads ? &grads->masks : nullptr, needs.masks, sizes.latent, count * slab, d * slab);
    }
  }
  return streams;
}

// The share of each atom in its crystal's tensor, and its crystal.
template <typename T>
struct Shares {
  std::vector<T> share;
  std::vector<int64_t> crystal;
};

template <typename T>
Shares<T> make_shares(const DecodeArgs& args) {
  Shares<T> shares;
  const int64_t* ptr = args.ptr.const_data_ptr<int64_t>();
  const T* given = data_or_null<T>(args.atom_share);
  for (int64_t b = 0; b < args.sizes.crystals; ++b) {
    const T equal = T(1) / static_cast<T>(ptr[b + 1] - ptr[b]);
    for (int64_t n = ptr[b]; n < ptr[b + 1]; ++n) {
      shares.share.push_back(given == nullptr ? equal : given[n]);
      shares.crystal.push_back(b);
    }
  }
  return shares;
}

// Place of the matrix elements 00 01 02 10 11 12 20 21 22 among xx yy zz yz xz xy.
constexpr int kSix[9] = {0, 5, 4, 5, 1, 3, 4, 3, 2};

template <typename T>
void run_forward(const char* op, const DecodeArgs& args, Tensor& out) {
  constexpr int64_t enough_tasks = 16;
  const DecodeSizes& sizes = args.sizes;
  const TileProgram program = decode_program(args, {});
  check_values(op, args, program);
  const int64_t tile = rows_per_tile(program, false), atoms = sizes.atoms;
  const int64_t num_tiles = (atoms + tile - 1) / tile;
  const std::vector<Stream<T>> streams = input_streams<T>(args, {}, nullptr);
  const T* weights = args.weights.const_data_ptr<T>();
  const std::vector<Bf16Terms> bf16 = bf16_weights(program, weights, sizes.members, args.precision, false);
  std::vector<T> atom_tensors(static_cast<size_t>(sizes.members * sizes.readouts * atoms * 6));
  // A tile's inputs serve all members. Few tiles are shared out by members too, which changes no sum.
  const int64_t parts = num_tiles >= enough_tasks ? 1 : std::max<int64_t>(1, sizes.members);
  torch::stable::parallel_for(0, num_tiles * parts, 1, [&](int64_t first_task, int64_t last_task) {
    TileRunner<T> runner(program, tile, false);
    TileMemory<T> memory;
    memory.inputs.resize(streams.size());
    memory.outputs.resize(static_cast<size_t>(sizes.readouts));
    for (int64_t task = first_task; task < last_task; ++task) {
      const int64_t first = task / parts * tile, part = task % parts;
      const int64_t rows = std::min(tile, atoms - first);
      for (int64_t m = part * sizes.members / parts; m < (part + 1) * sizes.members / parts; ++m) {
        for (size_t i = 0; i < streams.size(); ++i) {
          memory.inputs[i] = streams[i].values + m * streams[i].member_stride + first * streams[i].per_row;
        }
        for (int64_t r = 0; r < sizes.readouts; ++r) {
          memory.outputs[static_cast<size_t>(r)] = atom_tensors.data() + ((m * sizes.readouts + r) * atoms + first) * 6;
        }
        memory.weights = weights + m * program.num_weights();
        memory.bf16 = member_of(bf16, m);
        runner.forward(memory, rows);
      }
    }
  });
  const Shares<T> shares = make_shares<T>(args);
  T* result = out.mutable_data_ptr<T>();
  std::fill_n(result, out.numel(), T(0));
  for (int64_t d = 0; d < sizes.members * sizes.readouts; ++d) {
    for (int64_t n = 0; n < atoms; ++n) {
      const T* six = atom_tensors.data() + (d * atoms + n) * 6;
      T* matrix = result + (d * sizes.crystals + shares.crystal[static_cast<size_t>(n)]) * 9;
      for (int k = 0; k < 9; ++k) matrix[k] += shares.share[static_cast<size_t>(n)] * six[kSix[k]];
    }
  }
}

template <typename T>
void run_backward(const char* op, const DecodeArgs& args, const Tensor& grad, const DecodeNeeds& needs,
                  DecodeGrads& grads) {
  const DecodeSizes& sizes = args.sizes;
  const TileProgram program = decode_program(args, needs);
  check_values(op, args, program);
  const int64_t tile = rows_per_tile(program, true), atoms = sizes.atoms, size = program.num_weights();
  const std::vector<Stream<T>> streams = input_streams<T>(args, needs, &grads);
  const T* weights = args.weights.const_data_ptr<T>();
  std::vector<T> weights_t(static_cast<size_t>(sizes.members * size));
  std::copy_n(weights, sizes.members * size, weights_t.data());
  for (int64_t m = 0; m < sizes.members; ++m)
    transpose_weights(program, weights + m * size, weights_t.data() + m * size);
  const std::vector<Bf16Terms> bf16 = bf16_weights(program, weights, sizes.members, args.precision, true);
  const Shares<T> shares = make_shares<T>(args);
  const T* grad_out = grad.const_data_ptr<T>();
  T* grad_weights = needs.weights ? grads.weights.mutable_data_ptr<T>() : nullptr;
  T* grad_share = needs.share ? grads.atom_share.mutable_data_ptr<T>() : nullptr;
  if (grad_share != nullptr) std::fill_n(grad_share, atoms, T(0));

  struct State {
    TileRunner<T> runner;
    std::vector<T> grad_tensors;  // [R, tile, 6]
  };
  const auto make_state = [&] {
    return State{TileRunner<T>(program, tile, true), std::vector<T>(static_cast<size_t>(sizes.readouts * tile * 6))};
  };
  const auto backward_tile = [&](TileRange range, State& state, T* group_grads) {
    TileMemory<T> memory;
    for (int64_t m = 0; m < sizes.members; ++m) {
      memory.inputs.clear();
      memory.grad_inputs.clear();
      memory.add_to.clear();
      memory.grad_outputs.clear();
      for (const Stream<T>& stream : streams) {
        const int64_t offset = m * stream.member_stride + range.first * stream.per_row;
        memory.inputs.push_back(stream.values + offset);
        memory.grad_inputs.push_back(stream.grads == nullptr ? nullptr : stream.grads + offset);
        memory.add_to.push_back(stream.member_stride == 0 && m > 0);
      }
      memory.weights = weights + m * size;
      memory.weights_t = weights_t.data() + m * size;
      memory.bf16 = member_of(bf16, m);
      memory.grad_weights = needs.weights ? group_grads + m * size : nullptr;
      state.runner.forward(memory, range.size());
      for (int64_t r = 0; r < sizes.readouts; ++r) {
        T* six = state.grad_tensors.data() + r * tile * 6;
        memory.grad_outputs.push_back(six);
        const T* values = state.runner.value(program.outputs()[static_cast<size_t>(r)]);
        for (int64_t n = range.first; n < range.last; ++n, six += 6, values += 6) {
          const int64_t crystal = shares.crystal[static_cast<size_t>(n)];
          const T* matrix = grad_out + ((m * sizes.readouts + r) * sizes.crystals + crystal) * 9;
          T along = 0;
          std::fill_n(six, 6, T(0));
          for (int k = 0; k < 9; ++k) {
            six[kSix[k]] += shares.share[static_cast<size_t>(n)] * matrix[k];
            along += matrix[k] * values[kSix[k]];
          }
          if (grad_share != nullptr) grad_share[n] += along;
        }
      }
      state.runner.backward(memory, range.size());
    }
    if (sizes.members > 0) return;
    for (const Stream<T>& stream : streams) {
      if (stream.grads == nullptr || stream.member_stride != 0) continue;
      std::fill_n(stream.grads + range.first * stream.per_row, range.size() * stream.per_row, T(0));
    }
  };
  for_each_tile_in_groups(atoms, tile, grad_weights, needs.weights ? sizes.members * size : 0, make_state,
                          backward_tile);
}

}  // namespace

void decode_cpu(const char* op, const DecodeArgs& args, Tensor& out) {
  if (args.scalar.scalar_type() == ScalarType::Float) return run_forward<float>(op, args, out);
  return run_forward<double>(op, args, out);
}

void decode_backward_cpu(const char* op, const DecodeArgs& args, const Tensor& grad, const DecodeNeeds& needs,
                         DecodeGrads& grads) {
  if (args.scalar.scalar_type() == ScalarType::Float) return run_backward<float>(op, args, grad, needs, grads);
  return run_backward<double>(op, args, grad, needs, grads);
}

}  // namespace dtnn
