// SPDX-License-Identifier: MIT
// Tile programs on CUDA beside the same programs on the CPU (core/tile_program.h), with random weights and inputs.
#include "tile_program.h"

#include <cmath>

#include "tile_cases.h"

namespace {

using dtnn::TileProgram;
using dtnn::TileValueId;
using dtnn::cases::make_program;
using dtnn::cases::Numbers;
using dtnn::cases::Widths;

int64_t output_numbers(const TileProgram& program) {
  int64_t numbers = 0;
  for (TileValueId id : program.outputs()) numbers += program.values()[static_cast<size_t>(id)].per_row();
  return numbers;
}

// The results [members, rows, numbers] of both. The first input is one for all members.
template <typename T>
const char* run(const TileProgram& program, int64_t rows, int64_t members, int64_t shift, T* found, T* expected) {
  dtnn::TileSteps steps = plan_tile_steps(program);
  const int64_t size = program.num_weights(), wide = output_numbers(program) * rows;
  Numbers<T> weights(size * members, shift, 0.3, 1);
  std::vector<Numbers<T>> inputs;
  for (size_t i = 0; i < program.inputs().size(); ++i) {
    const TileValueId id = program.inputs()[i];
    const int64_t stride = i == 0 ? 0 : rows * program.values()[static_cast<size_t>(id)].per_row();
    inputs.emplace_back(rows * program.values()[static_cast<size_t>(id)].per_row() * (i == 0 ? 1 : members), shift, 1.0,
                        static_cast<unsigned>(i) + 2);
    steps.place(id).data = inputs.back().data();
    steps.place(id).member_stride = stride;
  }
  int64_t place = 0;
  for (TileValueId id : program.outputs()) {
    steps.place(id).data = found + place;
    steps.place(id).member_stride = wide;
    place += rows * program.values()[static_cast<size_t>(id)].per_row();
  }
  std::vector<T> workspace(dtnn::cuda::tile_program_workspace<T>(steps, rows, members));
  const char* const error =
      dtnn::cuda::launch_tile_program<T>(steps, {weights.data(), size, members, rows}, workspace.data(), nullptr);
  if (error != nullptr) return error;
  dtnn::TileRunner<T> runner(program, rows, false);
  for (int64_t m = 0; m < members; ++m) {
    dtnn::TileMemory<T> memory;
    for (size_t i = 0; i < inputs.size(); ++i) {
      memory.inputs.push_back(inputs[i].data() + m * steps.place(program.inputs()[i]).member_stride);
    }
    for (TileValueId id : program.outputs()) {
      const T* const first = static_cast<const T*>(steps.place(id).data);
      memory.outputs.push_back(expected + (first - found) + m * wide);
    }
    memory.weights = weights.data() + m * size;
    runner.forward(memory, rows);
  }
  return nullptr;
}

template <typename T>
std::string check(int64_t number, const Widths& widths, int64_t rows, int64_t members, int64_t shift) {
  const TileProgram program = make_program(number, widths);
  std::vector<T> found(output_numbers(program) * rows * members, T(NAN)), expected = found;
  const char* const error = run<T>(program, rows, members, shift, found.data(), expected.data());
  if (error != nullptr) return error;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!(std::abs(found[i] - expected[i]) <= 1e-3 * (1 + std::abs(expected[i])))) return "wrong values";
  }
  return "";
}

}  // namespace

#define DTNN_TILE_PROGRAM(suffix, T)                                                                            \
  extern "C" const char* tile_program_##suffix(int64_t number, const int64_t* w, int64_t rows, int64_t members, \
                                               int64_t shift, T* found, T* expected) {                          \
    return run<T>(make_program(number, {w[0], w[1], w[2], w[3]}), rows, members, shift, found, expected);       \
  }                                                                                                             \
  extern "C" const char* tile_program_numbers_##suffix(int64_t number, const int64_t* w, int64_t* numbers) {    \
    *numbers = output_numbers(make_program(number, {w[0], w[1], w[2], w[3]}));                                  \
    return nullptr;                                                                                             \
  }
DTNN_TILE_PROGRAM(f32, float)
DTNN_TILE_PROGRAM(f64, double)

DTNN_CASE(tile_program) {
  const Widths narrow{5, 3, 2, 1}, uneven{7, 3, 5, 6}, even{32, 8, 4, 36};
  for (const Widths& widths : {narrow, uneven, even}) {
    for (const int64_t number : {0, 1}) {
      std::string error = check<float>(number, widths, 37, 2, 0);
      if (error.empty()) error = check<double>(number, widths, 19, 1, 0);
      if (error.empty()) error = check<float>(number, widths, 3, 3, 1);
      if (!error.empty()) return error;
    }
  }
  const std::string error = check<double>(0, {64, 1, 1, 0}, 6, 3, 0);  // nothing to compute
  if (!error.empty()) return error;
  return check<double>(1, {4, 2, 2, 500}, 3, 1, 0);  // does not fit into shared memory
}
