// SPDX-License-Identifier: MIT
#include "core/tile_program.h"

#include <algorithm>
#include <utility>

#include "core/dual_tile_runner.h"
#include "core/small_matmul.h"
#include "core/tile_nodes.h"

namespace dtnn {
namespace {

size_t at(TileValueId id) { return static_cast<size_t>(id); }

// Memory of the values (and gradients) of a row, in numbers.
struct TilePlan {
  std::vector<int64_t> values;  // offset, or -1 for inputs, which stand in memory
  std::vector<int64_t> grads;
  int64_t size = 0;
};

// The matrix of a term for products in bfloat16; null where they are in float32, as always for float64.
const Bf16Matrix* matrix_of(const Bf16Terms* bf16, std::vector<std::unique_ptr<Bf16Matrix>> Bf16Terms::* terms,
                            size_t term) {
  return bf16 == nullptr ? nullptr : (bf16->*terms)[term].get();
}

// out [rows, cols] = x times the matrix, + bias or + what is in `out`.
void multiply_in_bf16(const float* x, const Bf16Matrix& matrix, const float* bias, bool accumulate, float* out,
                      int64_t rows) {
  Prefetch nothing;
  const SumStart start = bias != nullptr ? SumStart{bias, 0} : accumulate ? SumStart{out, matrix.cols()} : SumStart{};
  multiply(x, matrix, start, out, rows, nothing);
}
void multiply_in_bf16(const double*, const Bf16Matrix&, const double*, bool, double*, int64_t) {}

// A buffer from its first to its last use; steps count the nodes forward and then backward.
struct Interval {
  int64_t first;
  int64_t last;
  int64_t offset;
  int64_t size;
};

// The lowest place that no buffer of the same time occupies.
int64_t place(std::vector<Interval>& placed, int64_t first, int64_t last, int64_t size) {
  std::vector<std::pair<int64_t, int64_t>> taken;
  for (const Interval& other : placed) {
    if (other.first <= last && first <= other.last) taken.emplace_back(other.offset, other.offset + other.size);
  }
  std::sort(taken.begin(), taken.end());
  int64_t offset = 0;
  for (const auto& [begin, end] : taken) {
    if (offset + size <= begin) break;
    offset = std::max(offset, end);
  }
  placed.push_back({first, last, offset, size});
  return offset;
}

template <typename Visit>
void for_each_input(const TileNode& node, const Visit& visit) {
  for (TileValueId id : node.in) {
    if (id != kNoTileValue) visit(id);
  }
  for (const LinearTerm& term : node.terms) visit(term.x);
}

TilePlan make_plan(const TileProgram& program, bool with_backward) {
  const auto& nodes = program.nodes();
  const auto& values = program.values();
  const int64_t num_nodes = static_cast<int64_t>(nodes.size());
  const int64_t end = 2 * num_nodes;
  std::vector<int64_t> produced(values.size(), -1), last_use(values.size(), -1);
  for (int64_t n = 0; n < num_nodes; ++n) {
    produced[at(nodes[n].out)] = n;
    last_use[at(nodes[n].out)] = std::max(last_use[at(nodes[n].out)], n);
    for_each_input(nodes[n], [&](TileValueId id) { last_use[at(id)] = n; });
  }
  TilePlan plan;
  plan.values.assign(values.size(), -1);
  plan.grads.assign(values.size(), -1);
  std::vector<Interval> placed;
  for (size_t v = 0; v < values.size(); ++v) {
    if (produced[v] < 0) continue;
    int64_t last = last_use[v];
    // Backward of a node reads its inputs and its output. The caller reads outputs at the end.
    if (with_backward) last = end - 1 - produced[v];
    if (values[v].output >= 0) last = end;
    plan.values[v] = place(placed, produced[v], last, values[v].per_row());
  }
  if (with_backward) {
    for (size_t v = values.size(); v-- > 0;) {
      if (produced[v] < 0 || !values[v].requires_grad) continue;
      const int64_t first = values[v].output >= 0 ? num_nodes : end - 1 - last_use[v];
      plan.grads[v] = place(placed, first, end - 1 - produced[v], values[v].per_row());
    }
  }
  for (const Interval& interval : placed) plan.size = std::max(plan.size, interval.offset + interval.size);
  return plan;
}

}  // namespace

TileMatrix TileProgram::matrix(int64_t rows, int64_t cols) {
  matrices_.push_back({num_weights_, rows, cols});
  num_weights_ += rows * cols;
  return matrices_.back();
}

int64_t TileProgram::vector(int64_t size) {
  const int64_t offset = num_weights_;
  num_weights_ += size;
  return offset;
}

TileValueId TileProgram::add_value(int64_t components, int64_t channels, bool requires_grad) {
  values_.push_back({components, channels, -1, -1, requires_grad});
  return static_cast<TileValueId>(values_.size()) - 1;
}

TileValueId TileProgram::add_node(TileNodeKind kind, int64_t components, int64_t channels,
                                  std::array<TileValueId, 5> in, double eps) {
  bool requires_grad = false;
  for (TileValueId id : in) requires_grad = requires_grad || (id != kNoTileValue && values_[at(id)].requires_grad);
  const TileValueId out = add_value(components, channels, requires_grad);
  nodes_.push_back({kind, out, in, {}, kNoBias, eps});
  return out;
}

TileValueId TileProgram::input(int64_t components, int64_t channels, bool needs_grad) {
  const TileValueId id = add_value(components, channels, needs_grad);
  values_.back().input = static_cast<int>(inputs_.size());
  inputs_.push_back(id);
  return id;
}

TileValueId TileProgram::linear(std::vector<LinearTerm> terms, int64_t bias) {
  bool requires_grad = weights_need_grad_;
  for (const LinearTerm& term : terms) requires_grad = requires_grad || values_[at(term.x)].requires_grad;
  const TileValueId out = add_value(values_[at(terms[0].x)].components, terms[0].matrix.cols, requires_grad);
  const size_t first_term = num_terms_;
  num_terms_ += terms.size();
  nodes_.push_back({TileNodeKind::kLinear, out, {-1, -1, -1, -1, -1}, std::move(terms), bias, 0, first_term});
  return out;
}

TileValueId TileProgram::silu(TileValueId x, TileValueId mask) {
  const TileValue value = values_[at(x)];
  return add_node(TileNodeKind::kSilu, value.components, value.channels, {x, mask, -1, -1, -1});
}

TileValueId TileProgram::norm(TileValueId x, double eps) {
  return add_node(TileNodeKind::kNorm, 1, values_[at(x)].channels, {x, -1, -1, -1, -1}, eps);
}

TileValueId TileProgram::gate(TileValueId gate, TileValueId x, TileValueId residual) {
  const TileValue value = values_[at(x)];
  return add_node(TileNodeKind::kGate, value.components, value.channels, {gate, x, residual, -1, -1});
}

TileValueId TileProgram::add(TileValueId a, TileValueId b) {
  const TileValue value = values_[at(a)];
  return add_node(TileNodeKind::kAdd, value.components, value.channels, {a, b, -1, -1, -1});
}

TileValueId TileProgram::atom_tensor(TileValueId value, TileValueId gate, TileValueId vector, TileValueId rank2) {
  return add_node(TileNodeKind::kAtomTensor, 6, 1, {value, gate, vector, rank2, -1});
}

TileValueId TileProgram::layer_norm(TileValueId x, double eps) {
  return add_node(TileNodeKind::kLayerNorm, 1, values_[at(x)].channels, {x, -1, -1, -1, -1}, eps);
}

TileValueId TileProgram::soft_scale(TileValueId x) {
  return add_node(TileNodeKind::kSoftScale, 1, 1, {x, -1, -1, -1, -1});
}

TileValueId TileProgram::scale_rows(TileValueId x, TileValueId scale) {
  const TileValue value = values_[at(x)];
  return add_node(TileNodeKind::kScaleRows, value.components, value.channels, {x, scale, -1, -1, -1});
}

TileValueId TileProgram::times_vector(TileValueId tensor, TileValueId vector) {
  return add_node(TileNodeKind::kTimesVector, 3, values_[at(vector)].channels, {tensor, vector, -1, -1, -1});
}

TileValueId TileProgram::trace(TileValueId tensor) {
  return add_node(TileNodeKind::kTrace, 1, values_[at(tensor)].channels, {tensor, -1, -1, -1, -1});
}

TileValueId TileProgram::dot(TileValueId a, TileValueId b) {
  return add_node(TileNodeKind::kDot, 1, values_[at(a)].channels, {a, b, -1, -1, -1});
}

TileValueId TileProgram::square(TileValueId vector) {
  return add_node(TileNodeKind::kSquare, 6, values_[at(vector)].channels, {vector, -1, -1, -1, -1});
}

TileValueId TileProgram::gated_sum(TileValueId gate_a, TileValueId a, TileValueId gate_b, TileValueId b,
                                   TileValueId base) {
  const TileValue value = values_[at(a)];
  return add_node(TileNodeKind::kGatedSum, value.components, value.channels, {gate_a, a, gate_b, b, base});
}

TileValueId TileProgram::traceless(TileValueId tensor) {
  return add_node(TileNodeKind::kTraceless, 6, values_[at(tensor)].channels, {tensor, -1, -1, -1, -1});
}

void TileProgram::output(TileValueId value) {
  values_[at(value)].output = static_cast<int>(outputs_.size());
  outputs_.push_back(value);
}

template <typename T>
void transpose_weights(const TileProgram& program, const T* weights, T* transposed) {
  for (const TileMatrix& m : program.matrices()) {
    const T* from = weights + m.offset;
    T* to = transposed + m.offset;
    for (int64_t c = 0; c < m.cols; ++c) {
      for (int64_t r = 0; r < m.rows; ++r) to[c * m.rows + r] = from[r * m.cols + c];
    }
  }
}

Bf16Terms::Bf16Terms(const TileProgram& program, const float* weights, bool with_backward)
    : forward(program.num_terms()), backward(program.num_terms()) {
  for (const TileNode& node : program.nodes()) {
    for (size_t t = 0; t < node.terms.size(); ++t) {
      const MatrixPart& part = node.terms[t].matrix;
      const int64_t ld = part.whole.cols;
      const float* start = weights + part.whole.offset + part.first_row * ld + part.first_col;
      if (ld == 1) continue;
      forward[node.first_term + t] = std::make_unique<Bf16Matrix>(start, ld, 1, part.rows, part.cols);
      if (!with_backward) continue;
      backward[node.first_term + t] = std::make_unique<Bf16Matrix>(start, 1, ld, part.cols, part.rows);
    }
  }
}

int64_t tile_numbers_per_row(const TileProgram& program, bool with_backward) {
  return make_plan(program, with_backward).size;
}

template <typename T>
TileRunner<T>::TileRunner(const TileProgram& program, int64_t max_rows, bool with_backward) : program_(program) {
  const TilePlan plan = make_plan(program, with_backward);
  const size_t count = program.values().size();
  constexpr int64_t line = 64 / sizeof(T);
  storage_.reset(new T[static_cast<size_t>(plan.size * max_rows + line)]);
  const uintptr_t misaligned = reinterpret_cast<uintptr_t>(storage_.get()) % 64;
  T* start = storage_.get() + (misaligned == 0 ? 0 : (64 - misaligned) / sizeof(T));
  own_values_.assign(count, nullptr);
  own_grads_.assign(count, nullptr);
  for (size_t v = 0; v < count; ++v) {
    if (plan.values[v] >= 0) own_values_[v] = start + plan.values[v] * max_rows;
    if (plan.grads[v] >= 0) own_grads_[v] = start + plan.grads[v] * max_rows;
  }
  values_ = own_values_;
  grads_ = own_grads_;
  has_grad_.assign(count, 0);
}

template <typename T>
void TileRunner<T>::forward(const TileMemory<T>& memory, int64_t rows) {
  for (size_t i = 0; i < program_.inputs().size(); ++i) {
    values_[at(program_.inputs()[i])] = const_cast<T*>(memory.inputs[i]);  // never written: no node has it as `out`
  }
  for (size_t o = 0; o < program_.outputs().size(); ++o) {
    const size_t v = at(program_.outputs()[o]);
    values_[v] = memory.outputs.empty() || memory.outputs[o] == nullptr ? own_values_[v] : memory.outputs[o];
  }
  for (const TileNode& node : program_.nodes()) forward_node(node, memory, rows);
}

template <typename T>
NodeForward<T> TileRunner<T>::forward_arguments(const TileNode& node, int64_t rows) const {
  const TileValue& value = program_.values()[at(node.out)];
  NodeForward<T> args{rows, value.components, value.channels, static_cast<T>(node.eps), values_[at(node.out)], {}, 0,
                      0};
  for (size_t i = 0; i < node.in.size(); ++i) {
    const TileValueId id = node.in[i];
    args.in[i] = id == kNoTileValue ? nullptr : values_[at(id)];
  }
  const TileValue& first = program_.values()[at(node.in[0])];
  args.in_components = first.components;
  args.in_channels = first.channels;
  return args;
}

template <typename T>
void TileRunner<T>::forward_node(const TileNode& node, const TileMemory<T>& memory, int64_t rows) {
  const TileValue& value = program_.values()[at(node.out)];
  T* out = values_[at(node.out)];
  if (node.kind != TileNodeKind::kLinear) return run_node_forward(node.kind, forward_arguments(node, rows));
  const int64_t all_rows = rows * value.components;
  const T* bias = node.bias == kNoBias ? nullptr : memory.weights + node.bias;  // null once it is in `out`
  bool accumulate = false;
  for (size_t t = 0; t < node.terms.size(); ++t) {
    const LinearTerm& term = node.terms[t];
    const MatrixPart& part = term.matrix;
    const int64_t depth = part.rows, ld = part.whole.cols;
    const T* x = values_[at(term.x)];
    if (const Bf16Matrix* bf16 = matrix_of(memory.bf16, &Bf16Terms::forward, node.first_term + t)) {
      multiply_in_bf16(x, *bf16, bias, accumulate, out, all_rows);
    } else {
      const T* matrix = memory.weights + part.whole.offset + part.first_row * ld + part.first_col;
      if (bias != nullptr) fill_rows_with(bias, all_rows, value.channels, out);
      const bool add = accumulate || bias != nullptr;
      if (ld == 1) {
        add_dots(x, matrix, all_rows, depth, add, out);
      } else {
        Prefetch ahead;
        multiply(SmallMatmul<T>{x, depth, 1, matrix, ld, out, value.channels, all_rows, value.channels, depth, add},
                 ahead);
      }
    }
    bias = nullptr;
    accumulate = true;
  }
}

template <typename T>
T* TileRunner<T>::grad_to_add_to(TileValueId id, int64_t rows) {
  if (id == kNoTileValue || grads_[at(id)] == nullptr) return nullptr;
  if (!has_grad_[at(id)]) std::fill_n(grads_[at(id)], rows * program_.values()[at(id)].per_row(), T(0));
  has_grad_[at(id)] = 1;
  return grads_[at(id)];
}

template <typename T>
void TileRunner<T>::backward(const TileMemory<T>& memory, int64_t rows) {
  std::fill(has_grad_.begin(), has_grad_.end(), char{0});
  for (size_t i = 0; i < program_.inputs().size(); ++i) {
    const TileValueId id = program_.inputs()[i];
    grads_[at(id)] = program_.values()[at(id)].requires_grad ? memory.grad_inputs[i] : nullptr;
    has_grad_[at(id)] = memory.add_to.empty() ? 0 : memory.add_to[i];
  }
  for (size_t o = 0; o < program_.outputs().size(); ++o) {
    const TileValueId id = program_.outputs()[o];
    if (grads_[at(id)] == nullptr || memory.grad_outputs[o] == nullptr) continue;
    std::copy_n(memory.grad_outputs[o], rows * program_.values()[at(id)].per_row(), grads_[at(id)]);
    has_grad_[at(id)] = 1;
  }
  const auto& nodes = program_.nodes();
  for (size_t n = nodes.size(); n-- > 0;) {
    if (grads_[at(nodes[n].out)] != nullptr && has_grad_[at(nodes[n].out)]) backward_node(nodes[n], memory, rows);
  }
  for (TileValueId id : program_.inputs()) grad_to_add_to(id, rows);  // zeros where nothing came
}

template <typename T>
NodeBackward<T> TileRunner<T>::backward_arguments(const TileNode& node, int64_t rows) {
  const TileValue& value = program_.values()[at(node.out)];
  NodeBackward<T> args{rows,
                       value.components,
                       value.channels,
                       static_cast<T>(node.eps),
                       values_[at(node.out)],
                       grads_[at(node.out)],
                       {},
                       {},
                       0,
                       0};
  for (size_t i = 0; i < node.in.size(); ++i) {
    const TileValueId id = node.in[i];
    args.in[i] = id == kNoTileValue ? nullptr : values_[at(id)];
    args.grad_in[i] = grad_to_add_to(id, rows);
  }
  const TileValue& first = program_.values()[at(node.in[0])];
  args.in_components = first.components;
  args.in_channels = first.channels;
  return args;
}

template <typename T>
void TileRunner<T>::backward_node(const TileNode& node, const TileMemory<T>& memory, int64_t rows) {
  const TileValue& value = program_.values()[at(node.out)];
  const T* grad = grads_[at(node.out)];
  if (node.kind != TileNodeKind::kLinear) return run_node_backward(node.kind, backward_arguments(node, rows));
  const int64_t all_rows = rows * value.components, channels = value.channels;
  const bool weights = program_.weights_need_grad();
  if (weights && node.bias != kNoBias) add_column_sums(grad, all_rows, channels, memory.grad_weights + node.bias);
  for (size_t t = 0; t < node.terms.size(); ++t) {
    const LinearTerm& term = node.terms[t];
    const MatrixPart& part = term.matrix;
    const int64_t depth = part.rows, ld = part.whole.cols, ld_t = part.whole.rows;
    const T* x = values_[at(term.x)];
    Prefetch ahead;
    if (weights) {
      T* grad_matrix = memory.grad_weights + part.whole.offset + part.first_row * ld + part.first_col;
      if (ld == 1) {
        add_scaled_rows(x, grad, all_rows, depth, grad_matrix);
      } else {
        multiply(SmallMatmul<T>{x, 1, depth, grad, channels, grad_matrix, ld, depth, channels, all_rows, true}, ahead);
      }
    }
    T* grad_x = grads_[at(term.x)];
    if (grad_x == nullptr || !program_.values()[at(term.x)].requires_grad) continue;
    const bool accumulate = has_grad_[at(term.x)] != 0;
    has_grad_[at(term.x)] = 1;
    if (const Bf16Matrix* bf16 = matrix_of(memory.bf16, &Bf16Terms::backward, node.first_term + t)) {
      multiply_in_bf16(grad, *bf16, static_cast<const T*>(nullptr), accumulate, grad_x, all_rows);
      continue;
    }
    const T* matrix_t = memory.weights_t + part.whole.offset + part.first_col * ld_t + part.first_row;
    multiply(SmallMatmul<T>{grad, channels, 1, matrix_t, ld_t, grad_x, depth, all_rows, depth, channels, accumulate},
             ahead);
  }
}

template void transpose_weights<float>(const TileProgram&, const float*, float*);
template void transpose_weights<double>(const TileProgram&, const double*, double*);
template class TileRunner<float>;
template class TileRunner<double>;
template class TileRunner<Dual<float>>;
template class TileRunner<Dual<double>>;

}  // namespace dtnn
