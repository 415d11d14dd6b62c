// SPDX-License-Identifier: MIT
// The backward of a network in dual numbers that change along the gradients of its results (core/dual.h).
#include "core/dual_tile_runner.h"
#include "ops/atom_network.h"
#include "ops/cpu/tile_blocks.h"

namespace dtnn {
namespace {

// The inputs and gradients of a tile as pairs.
template <typename T>
class DualTile {
 public:
  DualTile(const TileProgram& program, int64_t rows) : program_(program), runner_(program, rows, true) {
    int64_t per_row = 0;
    for (TileValueId id : program.inputs()) per_row += 2 * per_row_of(id);
    for (TileValueId id : program.outputs()) per_row += per_row_of(id);
    pairs_.reset(new Dual<T>[static_cast<size_t>(rows * per_row)]);
  }

  // Computes the tile of memory and changes, whose addresses are those of its first row.
  void run(const TileMemory<T>& values, const std::vector<const T*>& input_changes, const T* weights_change,
           const T* weights_change_t, const std::vector<T*>& output_changes, int64_t rows) {
    Dual<T>* next = pairs_.get();
    const auto take = [&next, rows, this](TileValueId id) {
      Dual<T>* start = next;
      next += rows * per_row_of(id);
      return start;
    };
    TileMemory<Dual<T>> memory;
    memory.weights = {values.weights, weights_change};
    memory.weights_t = {values.weights_t, weights_change_t};
    memory.grad_weights = values.grad_weights;
    for (size_t i = 0; i < program_.inputs().size(); ++i) {
      const TileValueId id = program_.inputs()[i];
      Dual<T>* input = take(id);
      join(values.inputs[i], input_changes[i], rows * per_row_of(id), input);
      memory.inputs.push_back(input);
      memory.grad_inputs.push_back(values.grad_inputs[i] == nullptr ? nullptr : take(id));
    }
    for (size_t o = 0; o < program_.outputs().size(); ++o) {
      const TileValueId id = program_.outputs()[o];
      if (values.grad_outputs[o] == nullptr) {
        memory.grad_outputs.push_back(nullptr);
        continue;
      }
      Dual<T>* grad = take(id);
      join(values.grad_outputs[o], static_cast<const T*>(nullptr), rows * per_row_of(id), grad);
      memory.grad_outputs.push_back(grad);
    }
    runner_.forward(memory, rows);
    for (size_t o = 0; o < program_.outputs().size(); ++o) {
      const TileValueId id = program_.outputs()[o];
      copy_changes(runner_.value(id), rows * per_row_of(id), output_changes[o]);
    }
    runner_.backward(memory, rows);
    for (size_t i = 0; i < program_.inputs().size(); ++i) {
      if (values.grad_inputs[i] == nullptr) continue;
      copy_changes(memory.grad_inputs[i], rows * per_row_of(program_.inputs()[i]), values.grad_inputs[i]);
    }
  }

 private:
  int64_t per_row_of(TileValueId id) const { return program_.values()[static_cast<size_t>(id)].per_row(); }

  static void join(const T* values, const T* changes, int64_t count, Dual<T>* pairs) {
    for (int64_t i = 0; i < count; ++i) pairs[i] = {values[i], changes == nullptr ? T(0) : changes[i]};
  }
  static void copy_changes(const Dual<T>* pairs, int64_t count, T* changes) {
    for (int64_t i = 0; i < count; ++i) changes[i] = pairs[i].change;
  }

  const TileProgram& program_;
  TileRunner<Dual<T>> runner_;
  std::unique_ptr<Dual<T>[]> pairs_;
};

template <typename T>
const T* address(const Tensor* tensor) {
  return tensor == nullptr ? nullptr : tensor->const_data_ptr<T>();
}

template <typename T>
std::vector<T> transposed(const TileProgram& program, const T* weights) {
  std::vector<T> result;
  if (weights == nullptr) return result;
  result.assign(weights, weights + program.num_weights());
  transpose_weights(program, weights, result.data());
  return result;
}

template <typename T>
void double_backward(const TileProgram& program, const AtomNetwork& network, const AtomNetworkChanges& changes,
                     const std::vector<const Tensor*>& grad_outputs, const std::vector<Tensor*>& output_changes,
                     const std::vector<Tensor*>& grad_inputs, Tensor* grad_weights) {
  TileMemory<T> values, moving;  // `moving` holds the addresses of changes
  for (const Tensor* input : network.inputs) values.inputs.push_back(address<T>(input));
  for (const Tensor* change : changes.inputs) moving.inputs.push_back(address<T>(change));
  for (const Tensor* grad : grad_outputs) values.grad_outputs.push_back(address<T>(grad));
  for (Tensor* grad : grad_inputs) {
    values.grad_inputs.push_back(grad == nullptr ? nullptr : grad->mutable_data_ptr<T>());
  }
  for (Tensor* output : output_changes) moving.outputs.push_back(output->mutable_data_ptr<T>());
  values.weights = address<T>(network.weights);
  const T* weights_change = address<T>(changes.weights);
  const std::vector<T> weights_t = transposed(program, values.weights);
  const std::vector<T> weights_change_t = transposed(program, weights_change);
  values.weights_t = weights_t.data();
  const int64_t tile = rows_per_tile(program, true);
  const auto make_state = [&] { return DualTile<T>(program, tile); };
  const auto run_tile = [&](TileRange range, DualTile<T>& state, T* sums) {
    TileMemory<T> here = rows_from(program, values, range.first);
    here.grad_weights = sums;
    const TileMemory<T> moving_here = rows_from(program, moving, range.first);
    state.run(here, moving_here.inputs, weights_change, weights_change == nullptr ? nullptr : weights_change_t.data(),
              moving_here.outputs, range.size());
  };
  for_each_tile_in_groups(network.rows, tile, grad_weights == nullptr ? nullptr : grad_weights->mutable_data_ptr<T>(),
                          program.weights_need_grad() ? program.num_weights() : 0, make_state, run_tile);
}

}  // namespace

void atom_network_double_backward_cpu(const TileProgram& program, const AtomNetwork& network,
                                      const AtomNetworkChanges& changes, const std::vector<const Tensor*>& grad_outputs,
                                      std::vector<Tensor*> output_changes, std::vector<Tensor*> grad_inputs,
                                      Tensor* grad_weights) {
  if (network.weights->scalar_type() == ScalarType::Float) {
    return double_backward<float>(program, network, changes, grad_outputs, output_changes, grad_inputs, grad_weights);
  }
  return double_backward<double>(program, network, changes, grad_outputs, output_changes, grad_inputs, grad_weights);
}

}  // namespace dtnn
