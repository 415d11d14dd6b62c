// SPDX-License-Identifier: MIT
// Small networks on tiles of rows that stay in the cache. A fused operation describes its layers once, as a
// TileProgram; a TileRunner then takes a tile of atoms (or bonds) through all of them, and backward through all of
// them, without an intermediate result in memory. Backward computes the values of its tile again.
//
// A value has [rows, components, channels] numbers: scalars have one component, vectors three, symmetric tensors six
// (xx yy zz yz xz xy). Weights stand in one flat array, in the order in which the program asks for them; a matrix is
// stored [inputs, outputs].
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "bf16_matmul.h"

namespace dtnn {

// A matrix in the flat weights, or a part of it: rows first_row.. and columns first_col.. of a matrix [rows, cols].
struct TileMatrix {
  int64_t offset;
  int64_t rows;
  int64_t cols;
};
struct MatrixPart {
  TileMatrix whole;
  int64_t first_row;
  int64_t first_col;
  int64_t rows;
  int64_t cols;
};
inline MatrixPart all_of(const TileMatrix& m) { return {m, 0, 0, m.rows, m.cols}; }
inline MatrixPart rows_of(const TileMatrix& m, int64_t first, int64_t count) { return {m, first, 0, count, m.cols}; }
inline MatrixPart cols_of(const TileMatrix& m, int64_t first, int64_t count) { return {m, 0, first, m.rows, count}; }

using TileValueId = int;
constexpr TileValueId kNoTileValue = -1;
constexpr int64_t kNoBias = -1;

enum class TileNodeKind {
  kLinear,       // sum over terms of x M, + bias
  kSilu,         // x sigmoid(x), times in[1] where given (a dropout mask)
  kNorm,         // sqrt(|x|^2 + eps^2) - eps over the components
  kGate,         // sigmoid(in[0]) in[1], + in[2] where given
  kAdd,          // in[0] + in[1]
  kAtomTensor,   // in[0] sigmoid(in[1]) I + v (x) v + t with v = in[2], t = in[3], one channel each
  kLayerNorm,    // (x - mean) / sqrt(variance + eps) over the channels
  kSoftScale,    // 1 / sqrt(1 + mean over channels of |x|^2), [rows, 1, 1]
  kScaleRows,    // in[0] times in[1] [rows, 1, 1]
  kTimesVector,  // t x
  kTrace,        // tr t
  kDot,          // x . y
  kSquare,       // x (x) x
  kGatedSum,     // in[0] in[1] + in[2] in[3], the gates in[0] and in[2] without components, + in[4] where given
  kTraceless,    // t - (tr t) / 3 I
};

struct LinearTerm {
  TileValueId x;
  MatrixPart matrix;
};

struct TileNode {
  TileNodeKind kind;
  TileValueId out;
  std::array<TileValueId, 5> in;
  std::vector<LinearTerm> terms;
  int64_t bias;
  double eps;
  size_t first_term = 0;  // the number of terms[0] among the terms of all nodes
};

struct TileValue {
  int64_t components;
  int64_t channels;
  int input;           // index among the inputs, or -1
  int output;          // index among the outputs, or -1
  bool requires_grad;  // whether backward computes its gradient

  int64_t per_row() const { return components * channels; }
};

class TileProgram {
 public:
  // With `weights_need_grad` backward computes the gradients of all weights.
  explicit TileProgram(bool weights_need_grad) : weights_need_grad_(weights_need_grad) {}

  TileMatrix matrix(int64_t rows, int64_t cols);
  int64_t vector(int64_t size);  // the offset of a bias

  TileValueId input(int64_t components, int64_t channels, bool needs_grad);
  TileValueId linear(std::vector<LinearTerm> terms, int64_t bias = kNoBias);
  TileValueId silu(TileValueId x, TileValueId mask = kNoTileValue);
  TileValueId norm(TileValueId x, double eps);
  TileValueId gate(TileValueId gate, TileValueId x, TileValueId residual = kNoTileValue);
  TileValueId add(TileValueId a, TileValueId b);
  TileValueId atom_tensor(TileValueId value, TileValueId gate, TileValueId vector, TileValueId rank2);
  TileValueId layer_norm(TileValueId x, double eps);
  TileValueId soft_scale(TileValueId x);
  TileValueId scale_rows(TileValueId x, TileValueId scale);
  TileValueId times_vector(TileValueId tensor, TileValueId vector);
  TileValueId trace(TileValueId tensor);
  TileValueId dot(TileValueId a, TileValueId b);
  TileValueId square(TileValueId vector);
  TileValueId gated_sum(TileValueId gate_a, TileValueId a, TileValueId gate_b, TileValueId b,
                        TileValueId base = kNoTileValue);
  TileValueId traceless(TileValueId tensor);
  void output(TileValueId value);

  size_t num_terms() const { return num_terms_; }
  int64_t num_weights() const { return num_weights_; }
  bool weights_need_grad() const { return weights_need_grad_; }
  const std::vector<TileNode>& nodes() const { return nodes_; }
  const std::vector<TileValue>& values() const { return values_; }
  const std::vector<TileMatrix>& matrices() const { return matrices_; }
  const std::vector<TileValueId>& inputs() const { return inputs_; }
  const std::vector<TileValueId>& outputs() const { return outputs_; }

 private:
  TileValueId add_value(int64_t components, int64_t channels, bool requires_grad);
  TileValueId add_node(TileNodeKind kind, int64_t components, int64_t channels,
                       std::array<TileValueId, 5> in = {-1, -1, -1, -1, -1}, double eps = 0);

  bool weights_need_grad_;
  int64_t num_weights_ = 0;
  size_t num_terms_ = 0;
  std::vector<TileNode> nodes_;
  std::vector<TileValue> values_;
  std::vector<TileMatrix> matrices_;
  std::vector<TileValueId> inputs_;
  std::vector<TileValueId> outputs_;
};

// The weights with every matrix transposed, which backward multiplies with.
template <typename T>
void transpose_weights(const TileProgram& program, const T* weights, T* transposed);

// The matrices of a program's terms for products in bfloat16, by the number of the term. Products with one column stay
// in float32 and have none.
struct Bf16Terms {
  std::vector<std::unique_ptr<Bf16Matrix>> forward;
  std::vector<std::unique_ptr<Bf16Matrix>> backward;  // transposed, for the gradients of the values

  Bf16Terms(const TileProgram& program, const float* weights, bool with_backward);
};

// What a run works on, all of it at the first row of the tile, in the order of the program's inputs and outputs.
template <typename T>
struct TileMemory {
  std::vector<const T*> inputs;
  std::vector<T*> outputs;  // null: the values stay in the runner, see TileRunner::value
  const T* weights = nullptr;
  const Bf16Terms* bf16 = nullptr;  // of the same weights; null: products in float32
  // Of backward:
  const T* weights_t = nullptr;
  std::vector<const T*> grad_outputs;
  std::vector<T*> grad_inputs;  // null where no gradient is needed
  T* grad_weights = nullptr;    // added to
  std::vector<char> add_to;     // for each input, whether its gradient is added to or overwritten; empty: overwritten
};

template <typename T>
struct NodeForward;
template <typename T>
struct NodeBackward;

// Runs a program on one thread. In dual numbers, backward gives second derivatives: see dual_tile_runner.h.
template <typename T>
class TileRunner {
 public:
  // For tiles of at most `max_rows` rows; without `with_backward`, values give up their memory after their last use.
  TileRunner(const TileProgram& program, int64_t max_rows, bool with_backward);

  void forward(const TileMemory<T>& memory, int64_t rows);
  // After `forward` with the same tile.
  void backward(const TileMemory<T>& memory, int64_t rows);

  // Of an output that stays in the runner, valid after `forward`.
  const T* value(TileValueId id) const { return values_[static_cast<size_t>(id)]; }

 private:
  void forward_node(const TileNode& node, const TileMemory<T>& memory, int64_t rows);
  void backward_node(const TileNode& node, const TileMemory<T>& memory, int64_t rows);
  // What a node that is no product works on.
  NodeForward<T> forward_arguments(const TileNode& node, int64_t rows) const;
  NodeBackward<T> backward_arguments(const TileNode& node, int64_t rows);
  T* grad_to_add_to(TileValueId id, int64_t rows);

  friend struct DualNodes;

  const TileProgram& program_;
  std::unique_ptr<T[]> storage_;
  std::vector<T*> own_values_;
  std::vector<T*> own_grads_;
  std::vector<T*> values_;
  std::vector<T*> grads_;
  std::vector<char> has_grad_;
};

// Numbers of a row that a runner holds: for choosing the rows of a tile.
int64_t tile_numbers_per_row(const TileProgram& program, bool with_backward);

}  // namespace dtnn
