// SPDX-License-Identifier: MIT
#include <algorithm>
#include <memory>
#include <optional>

#include "core/small_matmul.h"
#include "ops/cpu/bond_messages_backward_tile.h"
#include "ops/cpu/message_blocks.h"
#include "ops/cpu/message_weight_grads.h"
#include "ops/cpu/product_precision.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {
namespace {

template <typename T>
DTNN_ALWAYS_INLINE void add_one_side_grads(const MessageView<T>& in, const int64_t* order, BondRange range, int side,
                                           T* ends, int64_t first_bond, const AtomGradView<T>& grads) {
  for (int64_t k = range.first; k < range.last; ++k) {
    const int64_t e = order == nullptr ? k : order[k];
    add_end_grads(in, e, side, ends + (e - first_bond) * end_grads_width(in.shape), grads);
  }
}

#define DTNN_MESSAGE_GRAD_STEPS(T)                                                                                    \
  DTNN_SIMD_VERSIONS(void, fill_features, features_of_bonds,                                                          \
                     (const MessageView<T>& in, BondRange bonds, T* features, T* d, T* m, T* scratch),                \
                     (in, bonds, features, d, m, scratch))                                                            \
  DTNN_SIMD_VERSIONS_OF(void, activate, (activate_bonds<64, true>), (activate_bonds<32, true>),                       \
                        (activate_bonds<16, true>), (const MessageView<T>& in, BondRange bonds, T* hidden, T* slope), \
                        (in, bonds, hidden, slope))                                                                   \
  DTNN_SIMD_VERSIONS(void, fill_message_grads, message_grads,                                                         \
                     (const MessageView<T>& in, const OutputGradView<T>& grads, const BondGradView<T>& bond_grads,    \
                      BondRange bonds, const T* out, const T* d, const T* m, T* g_out, T* g_d, T* g_m, T* g_u,        \
                      const BondScratch<MessageView<T>>& scratch),                                                    \
                     (in, grads, bond_grads, bonds, out, d, m, g_out, g_d, g_m, g_u, scratch))                        \
  DTNN_SIMD_VERSIONS(void, fill_hidden_grads, hidden_grads,                                                           \
                     (const MessageView<T>& in, BondRange bonds, const T* slope, T* g_hidden, T* ends),               \
                     (in, bonds, slope, g_hidden, ends))                                                              \
  DTNN_SIMD_VERSIONS(                                                                                                 \
      void, fill_feature_grads, feature_grads,                                                                        \
      (const MessageView<T>& in, const BondGradView<T>& bond_grads, BondRange bonds, const T* g_features, const T* d, \
       const T* m, const T* g_d, const T* g_m, const T* g_u, T* ends, const BondScratch<MessageView<T>>& scratch),    \
      (in, bond_grads, bonds, g_features, d, m, g_d, g_m, g_u, ends, scratch))                                        \
  DTNN_SIMD_VERSIONS(void, add_to_atoms, add_grads_to_atoms,                                                          \
                     (const MessageView<T>& in, BondRange bonds, T* ends, const AtomGradView<T>& grads),              \
                     (in, bonds, ends, grads))                                                                        \
  DTNN_SIMD_VERSIONS(void, add_side, add_one_side_grads,                                                              \
                     (const MessageView<T>& in, const int64_t* order, BondRange range, int side, T* ends,             \
                      int64_t first_bond, const AtomGradView<T>& grads),                                              \
                     (in, order, range, side, ends, first_bond, grads))                                               \
  DTNN_SIMD_VERSIONS(void, sum_rows, add_rows, (const T* values, int64_t rows, int64_t width, T* sums),               \
                     (values, rows, width, sums))
DTNN_MESSAGE_GRAD_STEPS(float)
DTNN_MESSAGE_GRAD_STEPS(double)
#undef DTNN_MESSAGE_GRAD_STEPS

template <typename T>
struct BackwardJob {
  MessageView<T> in;
  OutputGradView<T> output_grads;
  BondGradView<T> bond_grads;
  AtomGradView<T> atom_grads;
  PackedMatrix<T> hidden_weight;    // [F, H]
  PackedMatrix<T> out_weight;       // [H, O]
  PackedMatrix<T> hidden_weight_t;  // [H, F]
  PackedMatrix<T> out_weight_t;     // [O, H]
};

// Memory of one thread for a tile.
template <typename T>
struct BackwardScratch {
  explicit BackwardScratch(const MessageShape& s)
      : storage(uninitialized<T>(
            kTileBonds * (2 * s.features() + 3 * s.hidden + 2 * s.outputs() + 12 * s.vectors + 3 + end_grads_width(s)) +
            18 * s.vectors + BondScratch<MessageView<T>>::size(s))),
        bond(storage.get() + 18 * s.vectors, storage.get(), s) {
    T* next = bond.scalar + BondScratch<MessageView<T>>::size(s);
    const auto take = [&next](int64_t size) {
      T* start = next;
      next += size;
      return start;
    };
    features = take(kTileBonds * s.features());
    hidden = take(kTileBonds * s.hidden);
    slope = take(kTileBonds * s.hidden);
    out = take(kTileBonds * s.outputs());
    d = take(kTileBonds * 3 * s.vectors);
    m = take(kTileBonds * 3 * s.vectors);
    g_out = take(kTileBonds * s.outputs());
    g_hidden = take(kTileBonds * s.hidden);
    g_features = take(kTileBonds * s.features());
    g_d = take(kTileBonds * 3 * s.vectors);
    g_m = take(kTileBonds * 3 * s.vectors);
    g_u = take(kTileBonds * 3);
    ends = take(kTileBonds * end_grads_width(s));
  }

  std::unique_ptr<T[]> storage;
  BondScratch<MessageView<T>> bond;
  T* features;
  T* hidden;
  T* slope;
  T* out;
  T* d;
  T* m;
  T* g_out;
  T* g_hidden;
  T* g_features;
  T* g_d;
  T* g_m;
  T* g_u;
  T* ends;
};

// All gradients of a tile: of its bonds in their places, of the ends into `ends`, of the weights added to *weights.
template <typename T>
void grads_of_tile(const BackwardJob<T>& job, BondRange bonds, BackwardScratch<T>& s, T* ends,
                   WeightGrads<T>* weights) {
  Prefetch nothing;
  const MessageShape& shape = job.in.shape;
  fill_features(job.in, bonds, s.features, s.d, s.m, s.bond.turned);
  multiply(s.features, job.hidden_weight, s.hidden, bonds.size(), nothing);
  activate(job.in, bonds, s.hidden, s.slope);
  multiply(s.hidden, job.out_weight, s.out, bonds.size(), nothing);
  fill_message_grads(job.in, job.output_grads, job.bond_grads, bonds, s.out, s.d, s.m, s.g_out, s.g_d, s.g_m, s.g_u,
                     s.bond);
  multiply(s.g_out, job.out_weight_t, s.g_hidden, bonds.size(), nothing);
  fill_hidden_grads(job.in, bonds, s.slope, s.g_hidden, ends);
  multiply(s.g_hidden, job.hidden_weight_t, s.g_features, bonds.size(), nothing);
  fill_feature_grads(job.in, job.bond_grads, bonds, s.g_features, s.d, s.m, s.g_d, s.g_m, s.g_u, ends, s.bond);
  if (weights == nullptr) return;
  add_outer_products(s.g_hidden, shape.hidden, s.features, shape.features(), bonds.size(), weights->hidden);
  sum_rows(s.g_hidden, bonds.size(), shape.hidden, weights->hidden_bias);
  add_outer_products(s.g_out, shape.outputs(), s.hidden, shape.hidden, bonds.size(), weights->out);
  sum_rows(s.g_out, bonds.size(), shape.outputs(), weights->out_bias);
}

// A block whose bonds many threads share: first the gradients of all bonds, then their sums atom by atom.
template <typename T>
void run_large_block(const BackwardJob<T>& job, const ClosedBlock& block, const BondEnds& list,
                     GroupedWeightGrads<T, BackwardScratch<T>>& weight_grads) {
  const int64_t width = end_grads_width(job.in.shape);
  const std::unique_ptr<T[]> ends = uninitialized<T>(block.num_bonds() * width);
  const int64_t num_tiles = (block.num_bonds() + kTileBonds - 1) / kTileBonds;
  weight_grads.for_each(num_tiles, [&](int64_t t, BackwardScratch<T>& scratch, WeightGrads<T>* weights) {
    const BondRange bonds = tile_of(block, t);
    grads_of_tile(job, bonds, scratch, ends.get() + (bonds.first - block.first_bond) * width, weights);
  });
  const int64_t* row_ptr = list.row_ptr.const_data_ptr<int64_t>();
  const int64_t* order = list.neighbor_order->const_data_ptr<int64_t>();
  const int64_t* order_ptr = list.neighbor_row_ptr->const_data_ptr<int64_t>();
  torch::stable::parallel_for(block.first_atom, block.last_atom, 16, [&](int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      add_side(job.in, nullptr, BondRange{row_ptr[n], row_ptr[n + 1]}, 0, ends.get(), block.first_bond, job.atom_grads);
      add_side(job.in, order, BondRange{order_ptr[n], order_ptr[n + 1]}, 1, ends.get(), block.first_bond,
               job.atom_grads);
    }
  });
}

template <typename T>
void backward(const MessageShape& shape, const MessageInputs& inputs, bool in_bf16,
              const MessageOutputGrads& output_grads, const MessageNeeds& needs, MessageGrads& grads) {
  const int64_t f = shape.features(), h = shape.hidden, o = shape.outputs();
  const std::vector<ClosedBlock> blocks = message_blocks("bond_messages_backward", shape, inputs.ends);
  const T* hidden_weight = inputs.hidden_weight.const_data_ptr<T>();
  const T* out_weight = inputs.out_weight.const_data_ptr<T>();
  const auto if_geometry = [&](Tensor& tensor) { return needs.geometry ? tensor.mutable_data_ptr<T>() : nullptr; };
  const BackwardJob<T> job{
      MessageView<T>(shape, inputs),
      {data_or_null<T>(output_grads.scalar), data_or_null<T>(output_grads.vector),
       data_or_null<T>(output_grads.sum_scalar), data_or_null<T>(output_grads.sum_vector),
       data_or_null<T>(output_grads.sum_rank2)},
      {grads.bond_scalar.mutable_data_ptr<T>(), grads.bond_vector.mutable_data_ptr<T>(), if_geometry(grads.direction),
       if_geometry(grads.envelope), if_geometry(grads.radial)},
      {grads.q.mutable_data_ptr<T>(), grads.tau.mutable_data_ptr<T>(), grads.atom_hidden.mutable_data_ptr<T>()},
      PackedMatrix<T>(hidden_weight, 1, f, f, h, in_bf16),
      PackedMatrix<T>(out_weight, 1, h, h, o, in_bf16),
      PackedMatrix<T>(hidden_weight, f, 1, h, f, in_bf16),
      PackedMatrix<T>(out_weight, h, 1, o, h, in_bf16)};
  std::fill_n(job.atom_grads.q, shape.num_atoms * 3 * shape.vectors, T(0));
  std::fill_n(job.atom_grads.tau, shape.num_atoms * 6 * shape.vectors, T(0));
  std::fill_n(job.atom_grads.hidden, shape.num_atoms * h, T(0));
  std::vector<ClosedBlock> small;
  std::copy_if(blocks.begin(), blocks.end(), std::back_inserter(small), [](const auto& b) { return !is_large(b); });
  GroupedWeightGrads<T, BackwardScratch<T>> weight_grads(shape, needs.weights);
  weight_grads.for_each(static_cast<int64_t>(small.size()),
                        [&](int64_t k, BackwardScratch<T>& scratch, WeightGrads<T>* weights) {
                          for (int64_t t = 0; t * kTileBonds < small[k].num_bonds(); ++t) {
                            const BondRange bonds = tile_of(small[k], t);
                            grads_of_tile(job, bonds, scratch, scratch.ends, weights);
                            add_to_atoms(job.in, bonds, scratch.ends, job.atom_grads);
                          }
                        });
  for (const ClosedBlock& block : blocks) {
    if (is_large(block)) run_large_block(job, block, inputs.ends, weight_grads);
  }
  weight_grads.copy_to(grads);
}

}  // namespace

void bond_messages_backward_cpu(const MessageShape& shape, const MessageInputs& inputs, const MessageProducts& products,
                                const MessageOutputGrads& output_grads, const MessageNeeds& needs,
                                MessageGrads& grads) {
  for (Tensor* grad : {&grads.bond_scalar, &grads.bond_vector}) advise_large_pages(*grad);
  const bool in_bf16 = multiplies_in_bf16(products.precision);
  if (inputs.q.scalar_type() == ScalarType::Double) {
    return backward<double>(shape, inputs, in_bf16, output_grads, needs, grads);
  }
  return backward<float>(shape, inputs, in_bf16, output_grads, needs, grads);
}

}  // namespace dtnn
