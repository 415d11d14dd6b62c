// SPDX-License-Identifier: MIT
#include <algorithm>
#include <memory>

#include "core/small_matmul.h"
#include "ops/cpu/bond_messages_tile.h"
#include "ops/cpu/closed_blocks.h"
#include "ops/cpu/message_blocks.h"
#include "ops/cpu/product_precision.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {
namespace {

template <typename T>
DTNN_ALWAYS_INLINE void add_one_side(const MessageView<T>& in, const int64_t* order, BondRange range, int side,
                                     const T* new_scalar, const T* new_vector, const T* w, int64_t first_bond,
                                     const MessageSums<T>& sums, T* scratch) {
  for (int64_t k = range.first; k < range.last; ++k) {
    const int64_t e = order == nullptr ? k : order[k];
    add_to_side(in, e, side, new_scalar, new_vector, w + (e - first_bond) * 3 * in.shape.vectors, sums, scratch);
  }
}

#define DTNN_MESSAGE_STEPS(T)                                                                                          \
  DTNN_SIMD_VERSIONS(void, fill_features, features_of_bonds,                                                           \
                     (const MessageView<T>& in, BondRange bonds, T* features, T* d, T* m, T* scratch),                 \
                     (in, bonds, features, d, m, scratch))                                                             \
  DTNN_SIMD_VERSIONS_OF(void, activate, (activate_bonds<64, false>), (activate_bonds<32, false>),                      \
                        (activate_bonds<16, false>), (const MessageView<T>& in, BondRange bonds, T* hidden, T* slope), \
                        (in, bonds, hidden, slope))                                                                    \
  DTNN_SIMD_VERSIONS(void, fill_new_bonds, new_bonds,                                                                  \
                     (const MessageView<T>& in, BondRange bonds, const T* out, const T* d, const T* m, T* new_scalar,  \
                      T* new_vector, T* w),                                                                            \
                     (in, bonds, out, d, m, new_scalar, new_vector, w))                                                \
  DTNN_SIMD_VERSIONS(void, add_to_atoms, add_bonds_to_atoms,                                                           \
                     (const MessageView<T>& in, BondRange bonds, const T* new_scalar, const T* new_vector, const T* w, \
                      const MessageSums<T>& sums, T* scratch),                                                         \
                     (in, bonds, new_scalar, new_vector, w, sums, scratch))                                            \
  DTNN_SIMD_VERSIONS(void, add_side, add_one_side,                                                                     \
                     (const MessageView<T>& in, const int64_t* order, BondRange range, int side, const T* new_scalar,  \
                      const T* new_vector, const T* w, int64_t first_bond, const MessageSums<T>& sums, T* scratch),    \
                     (in, order, range, side, new_scalar, new_vector, w, first_bond, sums, scratch))
DTNN_MESSAGE_STEPS(float)
DTNN_MESSAGE_STEPS(double)
#undef DTNN_MESSAGE_STEPS

template <typename T>
struct ForwardJob {
  MessageView<T> in;
  PackedMatrix<T> hidden_weight;  // [F, H]
  PackedMatrix<T> out_weight;     // [H, O]
  T* new_scalar;
  T* new_vector;
  MessageSums<T> sums;
};

// Memory of one thread for a tile.
template <typename T>
struct ForwardScratch {
  explicit ForwardScratch(const MessageShape& s)
      : storage(
            uninitialized<T>(kTileBonds * (s.features() + s.hidden + s.outputs() + 6 * s.vectors) + 9 * s.vectors)) {
    features = storage.get();
    hidden = features + kTileBonds * s.features();
    out = hidden + kTileBonds * s.hidden;
    d = out + kTileBonds * s.outputs();
    m = d + kTileBonds * 3 * s.vectors;
    turned = m + kTileBonds * 3 * s.vectors;
  }

  std::unique_ptr<T[]> storage;
  T* features;
  T* hidden;
  T* out;
  T* d;
  T* m;
  T* turned;
};

template <typename T>
void messages_of_tile(const ForwardJob<T>& job, BondRange bonds, ForwardScratch<T>& scratch, T* w) {
  Prefetch nothing;
  fill_features(job.in, bonds, scratch.features, scratch.d, scratch.m, scratch.turned);
  multiply(scratch.features, job.hidden_weight, scratch.hidden, bonds.size(), nothing);
  activate(job.in, bonds, scratch.hidden, static_cast<T*>(nullptr));
  multiply(scratch.hidden, job.out_weight, scratch.out, bonds.size(), nothing);
  fill_new_bonds(job.in, bonds, scratch.out, scratch.d, scratch.m, job.new_scalar, job.new_vector, w);
}

// A block whose bonds many threads share: first all messages, then the sums atom by atom.
template <typename T>
void run_large_block(const ForwardJob<T>& job, const ClosedBlock& block, const BondEnds& ends) {
  const int64_t width = 3 * job.in.shape.vectors;
  const std::unique_ptr<T[]> w = uninitialized<T>(block.num_bonds() * width);
  const int64_t num_tiles = (block.num_bonds() + kTileBonds - 1) / kTileBonds;
  torch::stable::parallel_for(0, num_tiles, 1, [&](int64_t first, int64_t last) {
    ForwardScratch<T> scratch(job.in.shape);
    for (int64_t t = first; t < last; ++t) {
      const BondRange bonds = tile_of(block, t);
      messages_of_tile(job, bonds, scratch, w.get() + (bonds.first - block.first_bond) * width);
    }
  });
  const int64_t* row_ptr = ends.row_ptr.const_data_ptr<int64_t>();
  const int64_t* order = ends.neighbor_order->const_data_ptr<int64_t>();
  const int64_t* order_ptr = ends.neighbor_row_ptr->const_data_ptr<int64_t>();
  torch::stable::parallel_for(block.first_atom, block.last_atom, 16, [&](int64_t first, int64_t last) {
    const std::unique_ptr<T[]> turned = uninitialized<T>(2 * width);
    for (int64_t n = first; n < last; ++n) {
      add_side(job.in, nullptr, BondRange{row_ptr[n], row_ptr[n + 1]}, 0, job.new_scalar, job.new_vector, w.get(),
               block.first_bond, job.sums, turned.get());
      add_side(job.in, order, BondRange{order_ptr[n], order_ptr[n + 1]}, 1, job.new_scalar, job.new_vector, w.get(),
               block.first_bond, job.sums, turned.get());
    }
  });
}

template <typename T>
void forward(const MessageShape& shape, const MessageInputs& inputs, bool in_bf16, MessageOutputs& outputs) {
  const int64_t f = shape.features(), h = shape.hidden, o = shape.outputs();
  const std::vector<ClosedBlock> blocks = message_blocks("bond_messages", shape, inputs.ends);
  ForwardJob<T> job{MessageView<T>(shape, inputs),
                    PackedMatrix<T>(inputs.hidden_weight.const_data_ptr<T>(), 1, f, f, h, in_bf16),
                    PackedMatrix<T>(inputs.out_weight.const_data_ptr<T>(), 1, h, h, o, in_bf16),
                    outputs.scalar.mutable_data_ptr<T>(),
                    outputs.vector.mutable_data_ptr<T>(),
                    {outputs.sum_scalar.mutable_data_ptr<T>(), outputs.sum_vector.mutable_data_ptr<T>(),
                     outputs.sum_rank2.mutable_data_ptr<T>()}};
  std::fill_n(job.sums.scalar, shape.num_atoms * shape.scalars, T(0));
  std::fill_n(job.sums.vector, shape.num_atoms * 3 * shape.vectors, T(0));
  std::fill_n(job.sums.rank2, shape.num_atoms * 6 * shape.vectors, T(0));
  torch::stable::parallel_for(0, static_cast<int64_t>(blocks.size()), 1, [&](int64_t first, int64_t last) {
    ForwardScratch<T> scratch(shape);
    const std::unique_ptr<T[]> w = uninitialized<T>(kTileBonds * 3 * shape.vectors);
    for (int64_t k = first; k < last; ++k) {
      if (is_large(blocks[k])) continue;
      for (int64_t t = 0; t * kTileBonds < blocks[k].num_bonds(); ++t) {
        const BondRange bonds = tile_of(blocks[k], t);
        messages_of_tile(job, bonds, scratch, w.get());
        add_to_atoms(job.in, bonds, job.new_scalar, job.new_vector, w.get(), job.sums, scratch.turned);
      }
    }
  });
  for (const ClosedBlock& block : blocks) {
    if (is_large(block)) run_large_block(job, block, inputs.ends);
  }
}

}  // namespace

void bond_messages_cpu(const MessageShape& shape, const MessageInputs& inputs, const MessageProducts& products,
                       MessageOutputs& outputs) {
  for (Tensor* output : {&outputs.scalar, &outputs.vector}) advise_large_pages(*output);
  const bool in_bf16 = multiplies_in_bf16(products.precision);
  if (inputs.q.scalar_type() == ScalarType::Float) return forward<float>(shape, inputs, in_bf16, outputs);
  return forward<double>(shape, inputs, in_bf16, outputs);
}

}  // namespace dtnn
