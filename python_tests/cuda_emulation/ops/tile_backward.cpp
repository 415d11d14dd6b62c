// SPDX-License-Identifier: MIT
// The backward of tile programs on CUDA beside that of the same programs on the CPU (core/tile_program.h), with random
// weights, inputs and gradients.
#include "tile_backward.h"

#include <cmath>
#include <stdexcept>
#include <string>

#include "tile_cases.h"

namespace {

using dtnn::TileProgram;
using dtnn::TileValueId;
using dtnn::cases::make_program;
using dtnn::cases::Numbers;
using dtnn::cases::Widths;

// What a case does, as bits of a number.
enum Flag : int64_t {
  kInputs = 1,         // gradients of inputs
  kWeights = 2,        // of weights
  kSomeOutputs = 4,    // every other output has no gradient
  kMadeForChunks = 8,  // the gradients of outputs are made for each chunk
  kSpoiled = 16,       // a NaN in the first input
};

dtnn::cases::Needs needs_of(int64_t flags) { return {(flags & kInputs) != 0, (flags & kWeights) != 0}; }

int64_t per_row(const TileProgram& program, TileValueId id) {
  return program.values()[static_cast<size_t>(id)].per_row();
}

bool needs_grad(const TileProgram& program, TileValueId id) {
  return program.values()[static_cast<size_t>(id)].requires_grad;
}

// Numbers of the results: the gradients of inputs, of which the first is shared by all members, and of weights.
int64_t result_numbers(const TileProgram& program, int64_t rows, int64_t members) {
  int64_t numbers = program.weights_need_grad() ? members * program.num_weights() : 0;
  for (size_t i = 0; i < program.inputs().size(); ++i) {
    const TileValueId id = program.inputs()[i];
    if (needs_grad(program, id)) numbers += rows * per_row(program, id) * (i == 0 ? 1 : members);
  }
  return numbers;
}

template <typename T>
struct Problem {
  const TileProgram& program;
  int64_t rows, members, flags;
  Numbers<T> weights;
  std::vector<Numbers<T>> inputs, grads;
  std::vector<int64_t> strides;
  std::vector<bool> given;

  Problem(const TileProgram& program_, int64_t rows_, int64_t members_, int64_t shift, int64_t flags_)
      : program(program_),
        rows(rows_),
        members(members_),
        flags(flags_),
        weights(program_.num_weights() * members_, shift, 0.3, 1) {
    unsigned seed = 2;
    for (size_t i = 0; i < program.inputs().size(); ++i) {
      const int64_t size = rows * per_row(program, program.inputs()[i]);
      inputs.emplace_back(size * (i == 0 ? 1 : members), shift, 1.0, seed++);
      strides.push_back(i == 0 ? 0 : size);
    }
    if ((flags & kSpoiled) != 0) inputs[0].data()[0] = T(NAN);
    for (size_t o = 0; o < program.outputs().size(); ++o) {
      grads.emplace_back(rows * members * per_row(program, program.outputs()[o]), shift, 1.0, seed++);
      given.push_back((flags & kSomeOutputs) == 0 || o % 2 == 0);
    }
  }

  // Where each input's gradient begins within the results; the weights' last.
  template <typename Visit>
  T* for_each_grad(T* results, const Visit& visit) const {
    for (size_t i = 0; i < program.inputs().size(); ++i) {
      const TileValueId id = program.inputs()[i];
      const bool needed = needs_grad(program, id);
      visit(i, needed ? results : nullptr);
      if (needed) results += rows * per_row(program, id) * (i == 0 ? 1 : members);
    }
    return program.weights_need_grad() ? results : nullptr;
  }
};

template <typename T>
const char* run_cuda(Problem<T>& problem, int64_t chunk_rows, T* results) {
  const TileProgram& program = problem.program;
  dtnn::cuda::TileBackwardArgs<T> args{{}, {}, problem.weights.data(), nullptr, problem.members, problem.rows};
  args.chunk_rows = chunk_rows;
  args.grad_weights = problem.for_each_grad(
      results, [&](size_t i, T* grad) { args.inputs.push_back({problem.inputs[i].data(), grad, problem.strides[i]}); });
  const bool made = (problem.flags & kMadeForChunks) != 0;
  for (size_t o = 0; o < problem.grads.size(); ++o) {
    const int64_t stride = problem.rows * per_row(program, program.outputs()[o]);
    args.grad_outputs.push_back({made ? nullptr : problem.grads[o].data(), stride});
  }
  dtnn::cuda::TileBackwardRun<T> backward(program, problem.given, std::vector<bool>(problem.given.size(), made), args);
  std::vector<T> workspace(static_cast<size_t>(backward.workspace()), T(NAN));
  const char* error = backward.start(workspace.data(), nullptr);
  for (int64_t chunk = 0; chunk < backward.num_chunks() && error == nullptr; ++chunk) {
    error = backward.forward(chunk, nullptr);
    if (error != nullptr) break;
    for (size_t o = 0; o < problem.grads.size() && made; ++o) {
      const int64_t width = per_row(program, program.outputs()[o]), count = backward.rows_of(chunk) * width;
      for (int64_t m = 0; m < problem.members; ++m) {
        const int64_t place = m * backward.member_rows() * width;
        // The values of the outputs are there; they enter the gradients.
        const T* const values = backward.output(o) + place;
        const T* const from = problem.grads[o].data() + (m * problem.rows + backward.first_row(chunk)) * width;
        if (!problem.given[o]) continue;
        for (int64_t i = 0; i < count; ++i) backward.grad_output(o)[place + i] = from[i] + values[i];
      }
    }
    error = backward.backward(chunk, nullptr);
  }
  return error == nullptr ? backward.finish(nullptr) : error;
}

template <typename T>
void run_cpu(Problem<T>& problem, T* results) {
  const TileProgram& program = problem.program;
  const int64_t rows = problem.rows, size = program.num_weights();
  std::fill_n(results, result_numbers(program, rows, problem.members), T(0));
  dtnn::TileRunner<T> runner(program, rows, true);
  for (int64_t m = 0; m < problem.members; ++m) {
    dtnn::TileMemory<T> memory;
    T* const grad_weights = problem.for_each_grad(results, [&](size_t i, T* grad) {
      memory.inputs.push_back(problem.inputs[i].data() + m * problem.strides[i]);
      memory.grad_inputs.push_back(grad == nullptr ? nullptr : grad + m * problem.strides[i]);
      memory.add_to.push_back(i == 0 && m > 0);
    });
    memory.weights = problem.weights.data() + m * size;
    std::vector<T> transposed(memory.weights, memory.weights + size);
    dtnn::transpose_weights(program, memory.weights, transposed.data());
    memory.weights_t = transposed.data();
    memory.grad_weights = grad_weights == nullptr ? nullptr : grad_weights + m * size;
    runner.forward(memory, rows);
    std::vector<std::vector<T>> grads;
    for (size_t o = 0; o < problem.grads.size(); ++o) {
      const int64_t count = rows * per_row(program, program.outputs()[o]);
      grads.emplace_back(problem.grads[o].data() + m * count, problem.grads[o].data() + (m + 1) * count);
      const T* const values = runner.value(program.outputs()[o]);
      for (int64_t i = 0; i < count && (problem.flags & kMadeForChunks) != 0; ++i) {
        grads.back()[static_cast<size_t>(i)] += values[i];
      }
    }
    for (size_t o = 0; o < grads.size(); ++o) {
      memory.grad_outputs.push_back(problem.given[o] ? grads[o].data() : nullptr);
    }
    runner.backward(memory, rows);
  }
}

template <typename T>
const char* run(const TileProgram& program, int64_t rows, int64_t members, int64_t shift, int64_t chunk_rows,
                int64_t flags, T* found, T* expected) {
  Problem<T> problem(program, rows, members, shift, flags);
  run_cpu(problem, expected);
  return run_cuda(problem, chunk_rows, found);
}

template <typename T>
std::string check(int64_t number, const Widths& widths, int64_t rows, int64_t members, int64_t shift,
                  int64_t chunk_rows, int64_t flags) {
  const TileProgram program = make_program(number, widths, needs_of(flags));
  std::vector<T> found(static_cast<size_t>(result_numbers(program, rows, members)), T(NAN)), expected = found;
  const char* const error = run<T>(program, rows, members, shift, chunk_rows, flags, found.data(), expected.data());
  if (error != nullptr) return error;
  T scale = 1;
  for (const T value : expected) scale = std::max(scale, std::abs(value));
  for (size_t i = 0; i < found.size(); ++i) {
    if (!(std::abs(found[i] - expected[i]) <= 1e-4 * scale)) return "wrong values";
  }
  return "";
}

}  // namespace

#define DTNN_TILE_BACKWARD(suffix, T)                                                                            \
  extern "C" const char* tile_backward_##suffix(int64_t number, const int64_t* w, int64_t rows, int64_t members, \
                                                int64_t shift, int64_t chunk_rows, int64_t flags, T* found,      \
                                                T* expected) {                                                   \
    const TileProgram program = make_program(number, {w[0], w[1], w[2], w[3]}, needs_of(flags));                 \
    return run<T>(program, rows, members, shift, chunk_rows, flags, found, expected);                            \
  }
DTNN_TILE_BACKWARD(f32, float)
DTNN_TILE_BACKWARD(f64, double)

extern "C" const char* tile_backward_numbers(int64_t number, const int64_t* w, int64_t rows, int64_t members,
                                             int64_t flags, int64_t* numbers) {
  *numbers = result_numbers(make_program(number, {w[0], w[1], w[2], w[3]}, needs_of(flags)), rows, members);
  return nullptr;
}

// Plans the backward of two products with parts of one matrix [4, 6], which start at these rows and columns and have
// these numbers of them.
extern "C" const char* tile_backward_of_parts(const int64_t* first, const int64_t* second) {
  TileProgram p(true);
  const TileValueId x = p.input(1, 4, true);
  const dtnn::TileMatrix m = p.matrix(4, 6);
  for (const int64_t* part : {first, second}) {
    const TileValueId from = part[2] == 4 ? x : p.input(1, part[2], true);
    p.output(p.linear({{from, {m, part[0], part[1], part[2], part[3]}}}));
  }
  static thread_local std::string message;
  try {
    dtnn::plan_tile_backward(p, {true, true}, {false, false});
  } catch (const std::logic_error& error) {
    message = error.what();
    return message.c_str();
  }
  return nullptr;
}

DTNN_CASE(tile_backward) {
  const Widths narrow{5, 3, 2, 1}, uneven{7, 3, 5, 6}, even{32, 8, 4, 36};
  std::string error = check<float>(1, narrow, 37, 2, 0, 0, kInputs | kWeights);
  for (const int64_t number : {0, 1, 7}) {
    if (error.empty()) error = check<float>(number, uneven, 19, 2, 0, 1, kInputs | kWeights | kMadeForChunks);
    if (error.empty()) error = check<double>(number, uneven, 3, 3, 1, 0, kInputs | kSomeOutputs);
  }
  if (error.empty()) error = check<float>(1, even, 17, 1, 0, 0, kInputs | kWeights);
  if (error.empty()) error = check<double>(0, even, 17, 2, 0, 1, kInputs | kWeights);
  if (!error.empty()) return error;
  return check<double>(1, {4, 2, 2, 500}, 1, 1, 0, 0, kInputs | kWeights);  // does not fit into shared memory
}
