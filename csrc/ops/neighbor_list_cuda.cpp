// SPDX-License-Identifier: MIT
// One synchronisation: the number of bonds, with what may be wrong, is read between the count and the fill. A batch of
// small crystals on average is tried without the arrays and launches for large ones; if it holds one after all, the
// count is done again.
#ifdef DTNN_WITH_CUDA

#include "cuda_stream.h"
#include "ops/cuda/neighbor_list.h"
#include "ops/neighbor_list_fixed.h"

namespace dtnn {
namespace {

constexpr const char* kOp = "neighbor_list";

// One count, ready to be filled. The tensors must live until the fill is enqueued; the allocator keeps their memory
// from other work of the same stream until then.
struct NeighborCount {
  cuda::NeighborListArgs args;
  bool with_large;
  Tensor workspace;
  Tensor status;
  cuda::NeighborBuffers buffers;
};

cuda::NeighborListArgs arguments_of(const NeighborListArguments& arguments) {
  return {arguments.positions.const_data_ptr<double>(),
          arguments.cell.const_data_ptr<double>(),
          arguments.pbc.const_data_ptr<bool>(),
          data_or_null<int64_t>(arguments.ptr),
          data_or_null<double>(arguments.cutoffs),
          arguments.cutoff,
          arguments.num_atoms(),
          arguments.num_crystals(),
          arguments.cell.dim() == 2,
          arguments.pbc.dim() == 1,
          arguments.half,
          arguments.self_pairs};
}

// All temporary arrays in one piece of memory.
Tensor allocate_workspace(const NeighborListArguments& arguments, bool with_large, cuda::NeighborBuffers& buffers) {
  constexpr int64_t kAlignment = 256;
  int64_t size = 0;
  const auto add = [&](auto*&, int64_t count, int64_t bytes) {
    size += (count * bytes + kAlignment - 1) / kAlignment * kAlignment;
  };
  buffers.lay_out(arguments.num_atoms(), arguments.num_crystals(), with_large, add);
  Tensor workspace = torch::stable::empty({size}, ScalarType::Byte, std::nullopt, arguments.positions.device());
  unsigned char* next = static_cast<unsigned char*>(workspace.mutable_data_ptr());
  buffers.lay_out(arguments.num_atoms(), arguments.num_crystals(), with_large,
                  [&](auto*& array, int64_t count, int64_t bytes) {
                    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(next);
                    next += (count * bytes + kAlignment - 1) / kAlignment * kAlignment;
                  });
  return workspace;
}

// Enqueues the count into row_ptr [N+1].
NeighborCount enqueue_neighbor_count(const char* op, const NeighborListArguments& arguments, bool with_large,
                                     Tensor& row_ptr, void* stream) {
  constexpr int64_t kMost = 0x7fffffff;
  DTNN_CHECK(arguments.num_atoms() < kMost && arguments.num_crystals() < kMost, op,
             ": expected fewer than 2^31 - 1 atoms and crystals, got ", arguments.num_atoms(), " and ",
             arguments.num_crystals());
  cuda::NeighborBuffers buffers;
  Tensor workspace = allocate_workspace(arguments, with_large, buffers);
  Tensor status =
      torch::stable::empty({cuda::kNumStatusWords}, ScalarType::Long, std::nullopt, arguments.positions.device());
  buffers.status = status.mutable_data_ptr<int64_t>();
  const NeighborCount count{arguments_of(arguments), with_large, workspace, status, buffers};
  check_launch(op, cuda::launch_neighbor_list_count(count.args, buffers, row_ptr.mutable_data_ptr<int64_t>(),
                                                    with_large, stream));
  return count;
}

NeighborListArguments copy_to_cpu(const NeighborListArguments& arguments) {
  NeighborListArguments copy = arguments;
  copy.positions = to_cpu(arguments.positions);
  copy.cell = to_cpu(arguments.cell);
  copy.pbc = to_cpu(arguments.pbc);
  copy.ptr = to_cpu(arguments.ptr);
  copy.cutoffs = to_cpu(arguments.cutoffs);
  return copy;
}

[[noreturn]] void raise(const NeighborListArguments& arguments, int64_t fault_word) {
  const int64_t crystal = cuda::crystal_of_fault(fault_word);
  const std::string where = arguments.num_crystals() == 1 ? "" : "crystal " + std::to_string(crystal) + ": ";
  switch (cuda::fault_of(fault_word)) {
    case cuda::NeighborFault::kShift:
      DTNN_CHECK(false, kOp, ": ", where,
                 "shifts beyond 32-bit integers: the `cell` is too small or skewed for this `cutoff`, or `positions` "
                 "too many cells apart");
    case cuda::NeighborFault::kManyBonds:
      DTNN_CHECK(false, kOp, ": ", where, "a list of more than ", cuda::kMostNeighborBonds,
                 " bonds does not fit into memory: is the `cutoff` too large or the `cell` too small?");
    default:
      // The CPU checks the same values and raises the error with the same message.
      neighbor_list_cpu(copy_to_cpu(arguments));
      DTNN_CHECK(false, kOp, ": ", where, "expected valid `positions`, `cell`, `ptr` and `cutoff`, got others");
  }
}

// Reads the status, the only synchronisation.
struct CountStatus {
  int64_t fault_word;
  int64_t num_bonds;
  explicit CountStatus(const NeighborCount& count) {
    const Tensor words = to_cpu(count.status);
    fault_word = words.const_data_ptr<int64_t>()[cuda::kFaultWord];
    num_bonds = words.const_data_ptr<int64_t>()[cuda::kNumBonds];
  }
};

Tensor empty_list(std::initializer_list<int64_t> sizes, ScalarType type, int64_t num_bonds,
                  const torch::stable::Device& device) {
  try {
    return torch::stable::empty(sizes, type, std::nullopt, device);
  } catch (const std::exception&) {
    DTNN_CHECK(false, kOp, ": a list of ", num_bonds,
               " bonds does not fit into the memory of the GPU: is the `cutoff` too large or the `cell` too small?");
  }
}

}  // namespace

NeighborListTensors neighbor_list_cuda(const NeighborListArguments& arguments) {
  const OnDeviceOf current(arguments.positions);
  void* const stream = current_cuda_stream(kOp, arguments.positions);
  check_not_capturing(kOp, stream, "; neighbor_list_fixed can");
  const torch::stable::Device device = arguments.positions.device();
  const int64_t num_atoms = arguments.num_atoms();
  Tensor row_ptr = torch::stable::empty({num_atoms + 1}, ScalarType::Long, std::nullopt, device);
  const bool expect_large = num_atoms >= cuda::kLargeCrystal * arguments.num_crystals();
  NeighborCount count = enqueue_neighbor_count(kOp, arguments, expect_large, row_ptr, stream);
  CountStatus status(count);
  if (cuda::fault_of(status.fault_word) == cuda::NeighborFault::kNeedsGrid) {
    count = enqueue_neighbor_count(kOp, arguments, true, row_ptr, stream);
    status = CountStatus(count);
  }
  if (cuda::fault_of(status.fault_word) != cuda::NeighborFault::kNone) raise(arguments, status.fault_word);

  const int64_t num_bonds = status.num_bonds;
  Tensor pairs = empty_list({2, num_bonds}, ScalarType::Long, num_bonds, device);
  Tensor shifts = empty_list({num_bonds, 3}, ScalarType::Int, num_bonds, device);
  int64_t* const centers = pairs.mutable_data_ptr<int64_t>();
  const cuda::NeighborOutput output{centers, centers + num_bonds, shifts.mutable_data_ptr<int32_t>(),
                                    row_ptr.mutable_data_ptr<int64_t>(), num_bonds};
  check_launch(kOp, cuda::launch_neighbor_list_fill(count.args, count.buffers, output, count.with_large, stream));
  return {pairs, shifts, row_ptr};
}

FixedNeighborListTensors neighbor_list_fixed_cuda(const NeighborListArguments& arguments, int64_t capacity) {
  const char* op = "neighbor_list_fixed";
  const OnDeviceOf current(arguments.positions);
  void* const stream = current_cuda_stream(op, arguments.positions);
  FixedNeighborListTensors list = empty_fixed_list(arguments, capacity);
  auto& [pairs, shifts, row_ptr, num_bonds, status] = list;
  const bool with_large = arguments.num_atoms() >= cuda::kLargeCrystal;
  const NeighborCount count = enqueue_neighbor_count(op, arguments, with_large, row_ptr, stream);
  int64_t* const centers = pairs.mutable_data_ptr<int64_t>();
  const cuda::NeighborOutput output{centers, centers + capacity, shifts.mutable_data_ptr<int32_t>(),
                                    row_ptr.mutable_data_ptr<int64_t>(), capacity};
  check_launch(op, cuda::launch_neighbor_list_fill(count.args, count.buffers, output, with_large, stream));
  const cuda::FixedListState state{num_bonds.mutable_data_ptr<int64_t>(), status.mutable_data_ptr<int64_t>()};
  check_launch(op, cuda::launch_neighbor_list_pad(count.args, count.buffers, output, state, stream));
  return list;
}

}  // namespace dtnn

#endif
