// SPDX-License-Identifier: MIT
// The gradients of the backward of bond_messages: its steps once more, in dual numbers that change along the gradients
// of its results (core/dual.h). The changes of the gradients of the inputs are the gradients of the inputs, and the
// changes of the outputs those of the gradients of the outputs.
#include <algorithm>
#include <memory>
#include <vector>

#include "core/small_matmul.h"
#include "ops/cpu/bond_messages_double_backward_tile.h"
#include "ops/cpu/message_blocks.h"
#include "ops/cpu/message_weight_grads.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {
namespace {

// Each bond has two rows, so half the tile of the backward fills the cache.
constexpr int64_t kTileDualBonds = kTileBonds / 2;

#define DTNN_DUAL_STEPS(T)                                                                                             \
  DTNN_SIMD_VERSIONS(void, fill_features, features_of_bonds,                                                           \
                     (const DualMessageView<T>& in, BondRange bonds, DualOut<T> features, DualOut<T> d, DualOut<T> m,  \
                      DualOut<T> scratch),                                                                             \
                     (in, bonds, features, d, m, scratch))                                                             \
  DTNN_SIMD_VERSIONS_OF(void, activate, activate_dual_bonds<64>, activate_dual_bonds<32>, activate_dual_bonds<16>,     \
                        (const DualMessageView<T>& in, BondRange bonds, DualOut<T> hidden, DualOut<T> slope),          \
                        (in, bonds, hidden, slope))                                                                    \
  DTNN_SIMD_VERSIONS(void, fill_new_bonds, new_bonds,                                                                  \
                     (const DualMessageView<T>& in, BondRange bonds, DualRow<T> out, DualRow<T> d, DualRow<T> m,       \
                      T* new_scalar, T* new_vector, DualOut<T> w),                                                     \
                     (in, bonds, out, d, m, new_scalar, new_vector, w))                                                \
  DTNN_SIMD_VERSIONS(void, fill_message_grads, message_grads,                                                          \
                     (const DualMessageView<T>& in, const OutputGradView<T>& grads, const BondGradView<T>& bond_grads, \
                      BondRange bonds, DualRow<T> out, DualRow<T> d, DualRow<T> m, DualOut<T> g_out, DualOut<T> g_d,   \
                      DualOut<T> g_m, T* g_u, const BondScratch<DualMessageView<T>>& scratch),                         \
                     (in, grads, bond_grads, bonds, out, d, m, g_out, g_d, g_m, g_u, scratch))                         \
  DTNN_SIMD_VERSIONS(void, fill_hidden_grads, hidden_grads,                                                            \
                     (const DualMessageView<T>& in, BondRange bonds, DualRow<T> slope, DualOut<T> g_hidden, T* ends),  \
                     (in, bonds, slope, g_hidden, ends))                                                               \
  DTNN_SIMD_VERSIONS(void, fill_feature_grads, feature_grads,                                                          \
                     (const DualMessageView<T>& in, const BondGradView<T>& bond_grads, BondRange bonds,                \
                      DualRow<T> g_features, DualRow<T> d, DualRow<T> m, DualRow<T> g_d, DualRow<T> g_m, const T* g_u, \
                      T* ends, const BondScratch<DualMessageView<T>>& scratch),                                        \
                     (in, bond_grads, bonds, g_features, d, m, g_d, g_m, g_u, ends, scratch))                          \
  DTNN_SIMD_VERSIONS(void, add_to_atoms, add_dual_bonds,                                                               \
                     (const DualMessageView<T>& in, BondRange bonds, T* ends, DualRow<T> w, const DualSums<T>& to,     \
                      DualOut<T> scratch),                                                                             \
                     (in, bonds, ends, w, to, scratch))                                                                \
  DTNN_SIMD_VERSIONS(void, add_side, add_one_dual_side,                                                                \
                     (const DualMessageView<T>& in, const int64_t* order, BondRange range, int side, T* ends,          \
                      DualRow<T> w, int64_t first_bond, const DualSums<T>& to, DualOut<T> scratch),                    \
                     (in, order, range, side, ends, w, first_bond, to, scratch))                                       \
  DTNN_SIMD_VERSIONS(void, sum_rows, add_rows, (const T* values, int64_t rows, int64_t width, T* sums),                \
                     (values, rows, width, sums))
DTNN_DUAL_STEPS(float)
DTNN_DUAL_STEPS(double)
#undef DTNN_DUAL_STEPS

// A matrix that all rows are multiplied with, and its change, which is mostly absent.
template <typename T>
struct DualMatrix {
  // Element [k, j] is b[k * row_stride + j * col_stride].
  DualMatrix(const T* b, const T* b_change, int64_t row_stride, int64_t col_stride, int64_t depth, int64_t cols)
      : matrix(b, row_stride, col_stride, depth, cols) {
    if (b_change == nullptr) return;
    change.resize(static_cast<size_t>(depth * cols));
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t j = 0; j < cols; ++j) change[k * cols + j] = b_change[k * row_stride + j * col_stride];
    }
  }

  PackedMatrix<T> matrix;
  std::vector<T> change;  // [depth, cols]
};

// Values and changes of the rows of a tile, one below the other, so that one product serves both.
template <typename T>
struct DualStack {
  T* start;
  int64_t width;
  bool changes_first = false;

  DualOut<T> of(int64_t rows) const {
    T* second = start + rows * width;
    return changes_first ? DualOut<T>{second, start} : DualOut<T>{start, second};
  }
};

template <typename T>
void multiply_duals(const DualStack<T>& a, const DualMatrix<T>& b, const DualStack<T>& out, int64_t rows) {
  Prefetch nothing;
  multiply(a.start, b.matrix, out.start, 2 * rows, nothing);
  if (b.change.empty()) return;
  multiply(SmallMatmul<T>{a.of(rows).value, a.width, 1, b.change.data(), out.width, out.of(rows).change, out.width,
                          rows, out.width, a.width, true},
           nothing);
}

template <typename T>
struct DoubleBackwardJob {
  DualMessageView<T> in;
  OutputGradView<T> output_grads;
  BondGradView<T> bond_grads;
  DualSums<T> to;
  T* new_scalar;
  T* new_vector;
  DualMatrix<T> hidden_weight;    // [F, H]
  DualMatrix<T> out_weight;       // [H, O]
  DualMatrix<T> hidden_weight_t;  // [H, F]
  DualMatrix<T> out_weight_t;     // [O, H]
};

// Memory of one thread for a tile.
template <typename T>
struct DualScratch {
  explicit DualScratch(const MessageShape& s)
      : storage(uninitialized<T>(kTileDualBonds * (4 * s.features() + 6 * s.hidden + 4 * s.outputs() + 30 * s.vectors +
                                                   3 + end_grads_width(s)) +
                                 36 * s.vectors + BondScratch<DualMessageView<T>>::size(s))),
        bond(storage.get() + 36 * s.vectors, {storage.get(), storage.get() + 18 * s.vectors}, s) {
    T* next = bond.scalar + BondScratch<DualMessageView<T>>::size(s);
    const auto take = [&next](int64_t size) {
      T* start = next;
      next += kTileDualBonds * size;
      return start;
    };
    const auto stack = [&](int64_t width, bool changes_first = false) {
      return DualStack<T>{take(2 * width), width, changes_first};
    };
    features = stack(s.features());
    hidden = stack(s.hidden);
    slope = stack(s.hidden);
    out = stack(s.outputs());
    // In this order the product rule of the weights' gradients, g_change^T x + g^T x_change, is one product too.
    g_out = stack(s.outputs(), true);
    g_hidden = stack(s.hidden, true);
    g_features = stack(s.features(), true);
    for (DualStack<T>* vectors : {&d, &m, &g_d, &g_m, &w}) *vectors = stack(3 * s.vectors);
    g_u = take(3);
    ends = take(end_grads_width(s));
  }

  std::unique_ptr<T[]> storage;
  BondScratch<DualMessageView<T>> bond;
  DualStack<T> features, hidden, slope, out, g_out, g_hidden, g_features, d, m, g_d, g_m, w;
  T* g_u;
  T* ends;
};

// As grads_of_tile of the backward.
template <typename T>
void double_backward_of_tile(const DoubleBackwardJob<T>& job, BondRange bonds, DualScratch<T>& s, T* ends, DualOut<T> w,
                             WeightGrads<T>* weights) {
  const MessageShape& shape = job.in.shape;
  const int64_t rows = bonds.size();
  const DualOut<T> out = s.out.of(rows), d = s.d.of(rows), m = s.m.of(rows), g_d = s.g_d.of(rows), g_m = s.g_m.of(rows);
  fill_features(job.in, bonds, s.features.of(rows), d, m, s.bond.turned);
  multiply_duals(s.features, job.hidden_weight, s.hidden, rows);
  activate(job.in, bonds, s.hidden.of(rows), s.slope.of(rows));
  multiply_duals(s.hidden, job.out_weight, s.out, rows);
  fill_new_bonds(job.in, bonds, out, d, m, job.new_scalar, job.new_vector, w);
  fill_message_grads(job.in, job.output_grads, job.bond_grads, bonds, out, d, m, s.g_out.of(rows), g_d, g_m, s.g_u,
                     s.bond);
  multiply_duals(s.g_out, job.out_weight_t, s.g_hidden, rows);
  fill_hidden_grads(job.in, bonds, s.slope.of(rows), s.g_hidden.of(rows), ends);
  multiply_duals(s.g_hidden, job.hidden_weight_t, s.g_features, rows);
  fill_feature_grads(job.in, job.bond_grads, bonds, s.g_features.of(rows), d, m, g_d, g_m, s.g_u, ends, s.bond);
  if (weights == nullptr) return;
  add_outer_products(s.g_hidden.start, shape.hidden, s.features.start, shape.features(), 2 * rows, weights->hidden);
  sum_rows(s.g_hidden.of(rows).change, rows, shape.hidden, weights->hidden_bias);
  add_outer_products(s.g_out.start, shape.outputs(), s.hidden.start, shape.hidden, 2 * rows, weights->out);
  sum_rows(s.g_out.of(rows).change, rows, shape.outputs(), weights->out_bias);
}

template <typename T>
using DualWeightGrads = GroupedWeightGrads<T, DualScratch<T>>;

// A block whose bonds many threads share: first the gradients of all bonds, then their sums atom by atom.
template <typename T>
void run_large_block(const DoubleBackwardJob<T>& job, const ClosedBlock& block, const BondEnds& list,
                     DualWeightGrads<T>& weight_grads) {
  const int64_t width = end_grads_width(job.in.shape), v3 = 3 * job.in.shape.vectors;
  const std::unique_ptr<T[]> ends = uninitialized<T>(block.num_bonds() * (width + 2 * v3));
  T* w_values = ends.get() + block.num_bonds() * width;
  const DualOut<T> w{w_values, w_values + block.num_bonds() * v3};
  const int64_t num_tiles = (block.num_bonds() + kTileDualBonds - 1) / kTileDualBonds;
  weight_grads.for_each(num_tiles, [&](int64_t t, DualScratch<T>& scratch, WeightGrads<T>* weights) {
    const BondRange bonds = tile_of(block, t, kTileDualBonds);
    const int64_t first = bonds.first - block.first_bond;
    double_backward_of_tile(job, bonds, scratch, ends.get() + first * width, w + first * v3, weights);
  });
  const int64_t* row_ptr = list.row_ptr.const_data_ptr<int64_t>();
  const int64_t* order = list.neighbor_order->const_data_ptr<int64_t>();
  const int64_t* order_ptr = list.neighbor_row_ptr->const_data_ptr<int64_t>();
  torch::stable::parallel_for(block.first_atom, block.last_atom, 16, [&](int64_t first, int64_t last) {
    const std::unique_ptr<T[]> room = uninitialized<T>(4 * v3);
    const DualOut<T> turned{room.get(), room.get() + 2 * v3};
    for (int64_t n = first; n < last; ++n) {
      add_side(job.in, nullptr, BondRange{row_ptr[n], row_ptr[n + 1]}, 0, ends.get(), w, block.first_bond, job.to,
               turned);
      add_side(job.in, order, BondRange{order_ptr[n], order_ptr[n + 1]}, 1, ends.get(), w, block.first_bond, job.to,
               turned);
    }
  });
}

template <typename T>
void double_backward(const MessageShape& shape, const MessageInputs& inputs, const MessageInputChanges& given,
                     const MessageOutputGrads& output_grads, const MessageNeeds& needs, MessageOutputs& output_changes,
                     MessageGrads& grads) {
  const int64_t f = shape.features(), h = shape.hidden, o = shape.outputs();
  const std::vector<ClosedBlock> blocks = message_blocks("bond_messages_double_backward", shape, inputs.ends);
  const std::vector<T> zeros(DualMessageView<T>::num_zeros(shape), T(0));
  const MessageChanges<T> changes{data_or_null<T>(given.q),           data_or_null<T>(given.tau),
                                  data_or_null<T>(given.atom_hidden), data_or_null<T>(given.bond_scalar),
                                  data_or_null<T>(given.bond_vector), data_or_null<T>(given.direction),
                                  data_or_null<T>(given.envelope),    data_or_null<T>(given.radial),
                                  data_or_null<T>(given.hidden_bias), data_or_null<T>(given.out_bias)};
  const T* hidden_weight = inputs.hidden_weight.const_data_ptr<T>();
  const T* out_weight = inputs.out_weight.const_data_ptr<T>();
  const T* hidden_change = data_or_null<T>(given.hidden_weight);
  const T* out_change = data_or_null<T>(given.out_weight);
  const auto if_geometry = [&](Tensor& tensor) { return needs.geometry ? tensor.mutable_data_ptr<T>() : nullptr; };
  T* new_scalar = output_changes.scalar.mutable_data_ptr<T>();
  T* new_vector = output_changes.vector.mutable_data_ptr<T>();
  const DoubleBackwardJob<T> job{
      {MessageView<T>(shape, inputs), changes, zeros.data()},
      {data_or_null<T>(output_grads.scalar), data_or_null<T>(output_grads.vector),
       data_or_null<T>(output_grads.sum_scalar), data_or_null<T>(output_grads.sum_vector),
       data_or_null<T>(output_grads.sum_rank2)},
      {grads.bond_scalar.mutable_data_ptr<T>(), grads.bond_vector.mutable_data_ptr<T>(), if_geometry(grads.direction),
       if_geometry(grads.envelope), if_geometry(grads.radial)},
      {{grads.q.mutable_data_ptr<T>(), grads.tau.mutable_data_ptr<T>(), grads.atom_hidden.mutable_data_ptr<T>()},
       {output_changes.sum_scalar.mutable_data_ptr<T>(), output_changes.sum_vector.mutable_data_ptr<T>(),
        output_changes.sum_rank2.mutable_data_ptr<T>()},
       new_scalar,
       new_vector},
      new_scalar,
      new_vector,
      DualMatrix<T>(hidden_weight, hidden_change, 1, f, f, h),
      DualMatrix<T>(out_weight, out_change, 1, h, h, o),
      DualMatrix<T>(hidden_weight, hidden_change, f, 1, h, f),
      DualMatrix<T>(out_weight, out_change, h, 1, o, h)};
  for (Tensor* sums : {&grads.q, &grads.tau, &grads.atom_hidden, &output_changes.sum_scalar, &output_changes.sum_vector,
                       &output_changes.sum_rank2}) {
    std::fill_n(sums->mutable_data_ptr<T>(), sums->numel(), T(0));
  }
  std::vector<ClosedBlock> small;
  std::copy_if(blocks.begin(), blocks.end(), std::back_inserter(small), [](const auto& b) { return !is_large(b); });
  DualWeightGrads<T> weight_grads(shape, needs.weights);
  weight_grads.for_each(static_cast<int64_t>(small.size()),
                        [&](int64_t k, DualScratch<T>& scratch, WeightGrads<T>* weights) {
                          for (int64_t t = 0; t * kTileDualBonds < small[k].num_bonds(); ++t) {
                            const BondRange bonds = tile_of(small[k], t, kTileDualBonds);
                            const DualOut<T> w = scratch.w.of(bonds.size());
                            double_backward_of_tile(job, bonds, scratch, scratch.ends, w, weights);
                            add_to_atoms(job.in, bonds, scratch.ends, w, job.to, scratch.bond.turned);
                          }
                        });
  for (const ClosedBlock& block : blocks) {
    if (is_large(block)) run_large_block(job, block, inputs.ends, weight_grads);
  }
  weight_grads.copy_to(grads);
}

}  // namespace

void bond_messages_double_backward_cpu(const MessageShape& shape, const MessageInputs& inputs,
                                       const MessageInputChanges& changes, const MessageOutputGrads& output_grads,
                                       const MessageNeeds& needs, MessageOutputs& output_changes, MessageGrads& grads) {
  for (Tensor* large : {&grads.bond_scalar, &grads.bond_vector, &output_changes.scalar, &output_changes.vector}) {
    advise_large_pages(*large);
  }
  if (inputs.q.scalar_type() == ScalarType::Float) {
    return double_backward<float>(shape, inputs, changes, output_grads, needs, output_changes, grads);
  }
  return double_backward<double>(shape, inputs, changes, output_grads, needs, output_changes, grads);
}

}  // namespace dtnn
