// SPDX-License-Identifier: MIT
// The torch side of tile programs on CUDA: addresses of inputs and outputs, and the launches with their memory.
#pragma once

#include "core/tile_steps.h"
#include "cuda_stream.h"
#include "ops/cuda/tile_backward.h"
#include "ops/cuda/tile_program.h"

namespace dtnn {

// Plans a program, takes its addresses, and launches it.
template <typename T>
class TileProgramLaunch {
 public:
  explicit TileProgramLaunch(const TileProgram& program) : program_(program), steps_(plan_tile_steps(program)) {}

  // Addresses of the first row; one member's values stand `member_stride` numbers after another's.
  void input(size_t number, const T* data, int64_t member_stride = 0) {
    set(program_.inputs()[number], const_cast<T*>(data), member_stride);  // never written: no step has it as `out`
  }
  void output(size_t number, T* data, int64_t member_stride = 0) {
    set(program_.outputs()[number], data, member_stride);
  }

  void run(const char* op, const Tensor& like, const cuda::TileProgramArgs<T>& args, void* stream) {
    const int64_t numbers = cuda::tile_program_workspace<T>(steps_, args.rows, args.members);
    Tensor workspace = torch::stable::new_empty(like, {numbers});
    check_launch(op, cuda::launch_tile_program<T>(steps_, args, workspace.mutable_data_ptr<T>(), stream));
  }

 private:
  void set(TileValueId value, T* data, int64_t member_stride) {
    // Without numbers there is no memory, but a null address would mean the tile's.
    steps_.place(value).data = data == nullptr ? reinterpret_cast<T*>(sizeof(T)) : data;
    steps_.place(value).member_stride = member_stride;
  }

  const TileProgram& program_;
  TileSteps steps_;
};

// Runs the backward of a program. `given`: outputs with a gradient; `read`: outputs whose values make_grads(run, chunk)
// reads, which writes the gradients that args leave to it.
template <typename T, typename MakeGrads>
void run_tile_backward(const char* op, const Tensor& like, const TileProgram& program, const std::vector<bool>& given,
                       const std::vector<bool>& read, const cuda::TileBackwardArgs<T>& args, void* stream,
                       const MakeGrads& make_grads) {
  cuda::TileBackwardRun<T> run(program, given, read, args);
  Tensor workspace = torch::stable::new_empty(like, {run.workspace()});
  check_launch(op, run.start(workspace.mutable_data_ptr<T>(), stream));
  for (int64_t chunk = 0; chunk < run.num_chunks(); ++chunk) {
    check_launch(op, run.forward(chunk, stream));
    make_grads(run, chunk);
    check_launch(op, run.backward(chunk, stream));
  }
  check_launch(op, run.finish(stream));
}

}  // namespace dtnn
