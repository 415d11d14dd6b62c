// SPDX-License-Identifier: MIT
#include <exception>
#include <new>

#include "core/neighbor_list.h"
#include "ops/cpu/list_kernels.h"
#include "ops/neighbor_list.h"

namespace dtnn {

NeighborListTensors neighbor_list_cpu(const NeighborListArguments& arguments) {
  const int64_t num_atoms = arguments.num_atoms(), num_crystals = arguments.num_crystals();
  const std::vector<int64_t> ptr = crystal_bounds("neighbor_list", arguments);
  const double* cutoffs = arguments.cutoffs ? arguments.cutoffs->const_data_ptr<double>() : &arguments.cutoff;
  const NeighborListInput input{arguments.positions.const_data_ptr<double>(),
                                arguments.cell.const_data_ptr<double>(),
                                arguments.pbc.const_data_ptr<bool>(),
                                ptr.data(),
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
