// SPDX-License-Identifier: MIT
// The backward of a tile program (core/tile_backward.h) on CUDA; rules as in launchers.h. Rows go in chunks whose
// values stand in device memory: the forward again, the steps in reverse, and products for the gradients of the
// weights, which are summed in groups of rows that follow from the sizes alone.
#pragma once

#include <cstdint>
#include <vector>

#include "../../core/tile_backward.h"

namespace dtnn::cuda {

// Rows [rows, per_row] of a member, and where their gradient goes (null where it is not needed).
template <typename T>
struct TileInput {
  const T* data;
  T* grad;
  int64_t member_stride;  // of both; 0: shared by all members, whose gradients are summed in order
};

// The gradient of an output as it is given. Null: the caller makes it for each chunk (TileBackwardRun::grad_output).
template <typename T>
struct TileOutputGrad {
  const T* data;
  int64_t member_stride;
};

template <typename T>
struct TileBackwardArgs {
  std::vector<TileInput<T>> inputs;
  std::vector<TileOutputGrad<T>> grad_outputs;  // not read where there is none
  const T* weights;                             // [members, num_weights]
  T* grad_weights;                              // as weights, or null
  int64_t members;
  int64_t rows;
  int64_t chunk_rows = 0;  // at least; 0: as many as fill a GPU
};

// Defined for T = float and double.
template <typename T>
class TileBackwardRun {
 public:
  TileBackwardRun(const TileProgram& program, const std::vector<bool>& given, const std::vector<bool>& read,
                  const TileBackwardArgs<T>& args);

  int64_t workspace() const;  // numbers of T

  // In this order: `start`, for each chunk `forward` and `backward`, `finish`.
  const char* start(T* workspace, void* stream);
  const char* forward(int64_t chunk, void* stream);
  const char* backward(int64_t chunk, void* stream);
  const char* finish(void* stream);

  int64_t num_chunks() const { return num_chunks_; }
  int64_t first_row(int64_t chunk) const { return chunk * chunk_rows_; }
  int64_t rows_of(int64_t chunk) const;

  // After `forward`, for the rows of the chunk: [members, member_rows(), per_row], of which rows_of(chunk) are in use.
  const T* output(size_t number) const;  // where `read`
  T* grad_output(size_t number) const;   // where given without an address
  int64_t member_rows() const { return slab_rows_; }

 private:
  struct Slab {
    bool is_used;
    int64_t offset;  // in the workspace
  };

  void plan_memory();
  T* at(const Slab& slab) const { return workspace_ + slab.offset; }
  int64_t per_row(TileValueId value) const;
  bool is_shared(size_t input) const;
  const char* clear(T* data, int64_t count, void* stream) const;
  std::vector<uint64_t> weight_items() const;

  const TileProgram& program_;
  TileBackwardArgs<T> args_;
  std::vector<bool> given_;
  TileBackward plan_;
  int64_t num_chunks_ = 0;
  int64_t chunk_rows_ = 0;
  int64_t slab_rows_ = 0;
  int64_t num_items_ = 0;
  int64_t num_groups_ = 0;
  int64_t workspace_numbers_ = 0;
  T* workspace_ = nullptr;
  std::vector<Slab> values_;        // of each value: kept
  std::vector<Slab> grads_;         // of each place of the reverse: kept gradients, and those the caller makes
  std::vector<Slab> member_grads_;  // of each input that members share
  Slab forward_words_{}, reverse_words_{}, item_words_{}, transposed_{}, partial_{}, outside_{};
};

// grads [members, weights] of a chunk's rows, added to `partial` [groups, members, num_weights].
struct TileWeightItem {
  const void* x;  // null: of a bias alone
  const void* grad;
  int64_t x_member_stride;
  int64_t grad_member_stride;
  int64_t weight;  // of the item's first element in the gradients of a member
  int64_t bias;    // likewise, or negative
  int32_t x_is_local;
  int32_t grad_is_local;
  int32_t components;
  int32_t depth;
  int32_t channels;
  int32_t row_stride;
  int32_t first_depth;  // the item's tile
  int32_t first_channel;
};
constexpr int64_t kWeightTile = 64;  // depths and channels of an item

template <typename T>
struct TileWeightGradArgs {
  const TileWeightItem* items;
  int64_t num_items;
  int64_t groups;
  int64_t members;
  int64_t num_weights;
  int64_t first_row;  // of the chunk
  int64_t rows;
  T* partial;
};
template <typename T>
const char* launch_tile_weight_grads(const TileWeightGradArgs<T>& args, void* stream);

// out [count] = the sum over the groups of parts [groups, stride].
template <typename T>
const char* launch_sum_of_groups(const T* parts, T* out, int64_t count, int64_t groups, int64_t stride, void* stream);

}  // namespace dtnn::cuda
