// SPDX-License-Identifier: MIT
#include "ops/cpu/neighbor_search.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {

NeighborListTensors neighbor_list_cpu(const NeighborListArguments& arguments) {
  const auto write = [&](const NeighborSearch& search, const Parallel& parallel) -> NeighborListTensors {
    const torch::stable::Device device = arguments.positions.device();
    const int64_t num_bonds = search.num_bonds();
    Tensor pairs = torch::stable::empty({2, num_bonds}, ScalarType::Long, std::nullopt, device);
    Tensor shifts = torch::stable::empty({num_bonds, 3}, ScalarType::Int, std::nullopt, device);
    Tensor row_ptr = torch::stable::empty({arguments.num_atoms() + 1}, ScalarType::Long, std::nullopt, device);
    for (Tensor* tensor : {&pairs, &shifts}) advise_large_pages(*tensor);
    int64_t* centers = pairs.mutable_data_ptr<int64_t>();
    search.write_bonds(
        {centers, centers + num_bonds, shifts.mutable_data_ptr<int32_t>(), row_ptr.mutable_data_ptr<int64_t>()},
        parallel);
    return {pairs, shifts, row_ptr};
  };
  return with_neighbor_search("neighbor_list", arguments, write);
}

}  // namespace dtnn
