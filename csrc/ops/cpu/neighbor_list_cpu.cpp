// SPDX-License-Identifier: MIT
#include <exception>
#include <functional>
#include <new>

#include "core/neighbor_list.h"
#include "ops/neighbor_list.h"

namespace dtnn {
namespace {

// Torch's own pool, so that threads are not oversubscribed inside a training step.
Parallel torch_threads() {
  return {static_cast<int>(torch::stable::get_num_threads()),
          [](int num_workers, const std::function<void(int)>& work) {
            torch::stable::parallel_for(0, num_workers, 1, [&](int64_t first, int64_t last) {
              for (int64_t worker = first; worker < last; ++worker) work(static_cast<int>(worker));
            });
          }};
}

void check_ptr(const int64_t* ptr, int64_t num_crystals, int64_t num_atoms) {
  DTNN_CHECK(ptr[0] == 0 && ptr[num_crystals] == num_atoms,
             "neighbor_list: expected `ptr` from 0 to the number of atoms, ", num_atoms, ", got ", ptr[0], " to ",
             ptr[num_crystals]);
  for (int64_t b = 0; b < num_crystals; ++b) {
    DTNN_CHECK(ptr[b] <= ptr[b + 1], "neighbor_list: expected `ptr` that never falls, got ", ptr[b], " before ",
               ptr[b + 1], " at crystal ", b);
  }
}

}  // namespace

NeighborListTensors neighbor_list_cpu(const NeighborListArguments& arguments) {
  const int64_t num_atoms = arguments.num_atoms(), num_crystals = arguments.num_crystals();
  const int64_t one_crystal[2] = {0, num_atoms};
  const int64_t* ptr = arguments.ptr ? arguments.ptr->const_data_ptr<int64_t>() : one_crystal;
  check_ptr(ptr, num_crystals, num_atoms);
  const double* cutoffs = arguments.cutoffs ? arguments.cutoffs->const_data_ptr<double>() : &arguments.cutoff;
  const NeighborListInput input{arguments.positions.const_data_ptr<double>(),
                                arguments.cell.const_data_ptr<double>(),
                                arguments.pbc.const_data_ptr<bool>(),
                                ptr,
                                num_atoms,
                                num_crystals,
                                arguments.cell.dim() == 2,
                                arguments.pbc.dim() == 1,
                                cutoffs,
                                !arguments.cutoffs,
                                arguments.half,
                                arguments.self_pairs};
  const Parallel parallel = torch_threads();
  try {
    const NeighborSearch search(input, parallel);
    const torch::stable::Device device = arguments.positions.device();
    const int64_t num_bonds = search.num_bonds();
    Tensor pairs = torch::stable::empty({2, num_bonds}, ScalarType::Long, std::nullopt, device);
    Tensor shifts = torch::stable::empty({num_bonds, 3}, ScalarType::Int, std::nullopt, device);
    Tensor row_ptr = torch::stable::empty({num_atoms + 1}, ScalarType::Long, std::nullopt, device);
    int64_t* centers = pairs.mutable_data_ptr<int64_t>();
    search.write_bonds(
        {centers, centers + num_bonds, shifts.mutable_data_ptr<int32_t>(), row_ptr.mutable_data_ptr<int64_t>()},
        parallel);
    return {pairs, shifts, row_ptr};
  } catch (const std::bad_alloc&) {
    DTNN_CHECK(false, "neighbor_list: the list does not fit into memory: is the `cutoff` too large?");
  } catch (const std::logic_error& error) {  // what the core throws on a bad argument
    DTNN_CHECK(false, "neighbor_list: ", error.what());
  }
}

}  // namespace dtnn
