// SPDX-License-Identifier: MIT
#include "ops/bonds_within.h"

#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"
#include "ops/cuda/bonds_within.h"
#include "ops/cuda/neighbor_list.h"
#endif

namespace dtnn {
namespace {

#ifdef DTNN_WITH_CUDA
// The CPU checks the same values and raises the error with the same message.
[[noreturn]] void raise(const char* op, const CrystalBatch& batch, const SortedBonds& bonds) {
  bonds_within_cpu(
      {to_cpu(batch.positions), to_cpu(batch.cell), to_cpu(batch.ptr), batch.cutoff, to_cpu(batch.cutoffs)},
      {to_cpu(bonds.pairs), to_cpu(bonds.shifts), to_cpu(bonds.row_ptr)});
  DTNN_CHECK(false, op, ": expected valid `positions`, `cell`, `ptr`, `cutoff` and bonds, got others");
}

// One synchronisation: the number of bonds, with whether anything is wrong, is read between the count and the write.
BondsWithinTensors bonds_within_cuda(const CrystalBatch& batch, const SortedBonds& bonds) {
  const char* op = "bonds_within";
  const OnDeviceOf current(batch.positions);
  void* const stream = current_cuda_stream(op, batch.positions);
  check_not_capturing(op, stream);
  const int64_t num_atoms = batch.num_atoms();
  const auto empty = [&](std::initializer_list<int64_t> sizes, ScalarType type) {
    return torch::stable::empty(sizes, type, std::nullopt, batch.positions.device());
  };
  const int64_t* const pairs = bonds.pairs.const_data_ptr<int64_t>();
  const cuda::BondsWithinArgs args{batch.positions.const_data_ptr<double>(),
                                   batch.cell.const_data_ptr<double>(),
                                   data_or_null<int64_t>(batch.ptr),
                                   data_or_null<double>(batch.cutoffs),
                                   pairs,
                                   pairs + bonds.num_bonds(),
                                   bonds.shifts.const_data_ptr<int32_t>(),
                                   bonds.row_ptr.const_data_ptr<int64_t>(),
                                   batch.cutoff,
                                   num_atoms,
                                   batch.num_crystals(),
                                   bonds.num_bonds(),
                                   batch.cell.dim() == 2};
  Tensor status = empty({cuda::kNumWithinWords}, ScalarType::Long);
  Tensor tile_sums = empty({cuda::num_prefix_tiles(num_atoms)}, ScalarType::Long);
  Tensor new_row_ptr = empty({num_atoms + 1}, ScalarType::Long);
  check_launch(op, cuda::launch_bonds_within_count(args, status.mutable_data_ptr<int64_t>(),
                                                   new_row_ptr.mutable_data_ptr<int64_t>(),
                                                   tile_sums.mutable_data_ptr<int64_t>(), stream));
  const Tensor words = to_cpu(status);
  if (words.const_data_ptr<int64_t>()[cuda::kBadWithin] != 0) raise(op, batch, bonds);

  const int64_t num_kept = words.const_data_ptr<int64_t>()[cuda::kNumWithin];
  Tensor kept = empty({num_kept}, ScalarType::Long);
  Tensor new_pairs = empty({2, num_kept}, ScalarType::Long);
  Tensor new_shifts = empty({num_kept, 3}, ScalarType::Int);
  int64_t* const centers = new_pairs.mutable_data_ptr<int64_t>();
  const cuda::BondsWithinOutput output{kept.mutable_data_ptr<int64_t>(), centers, centers + num_kept,
                                       new_shifts.mutable_data_ptr<int32_t>()};
  check_launch(op, cuda::launch_bonds_within_write(args, new_row_ptr.const_data_ptr<int64_t>(), output, stream));
  return {kept, new_pairs, new_shifts, new_row_ptr};
}
#endif

// The op on one device.
template <BondsWithinTensors (*kernel)(const CrystalBatch&, const SortedBonds&)>
BondsWithinTensors run(const Tensor& positions, const Tensor& cell, const OptionalTensor& ptr, const Tensor& pairs,
                       const Tensor& shifts, const Tensor& row_ptr, double cutoff, const OptionalTensor& cutoffs) {
  const char* op = "bonds_within";
  const CrystalBatch batch = check_crystal_batch(op, positions, cell, ptr, cutoff, cutoffs);
  const SortedBonds bonds = check_sorted_bonds(op, pairs, shifts, row_ptr, "positions", positions);
  DTNN_CHECK(bonds.num_atoms() == batch.num_atoms(), op,
             ": expected `row_ptr` of shape [N+1] with N = ", batch.num_atoms(), " as in `positions`, got ",
             describe_shape(row_ptr));
  return kernel(batch, bonds);
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "bonds_within(Tensor positions, Tensor cell, Tensor? ptr, Tensor pairs, Tensor shifts, Tensor row_ptr, "
      "float cutoff, Tensor? cutoffs) -> (Tensor kept, Tensor pairs, Tensor shifts, Tensor row_ptr)");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) { library.impl("bonds_within", TORCH_BOX(&dtnn::run<dtnn::bonds_within_cpu>)); }
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("bonds_within", TORCH_BOX(&dtnn::run<dtnn::bonds_within_cuda>));
}
#endif
