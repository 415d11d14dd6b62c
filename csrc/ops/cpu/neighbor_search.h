// SPDX-License-Identifier: MIT
// The core's search on the tensors of an operation, for the CPU kernels that make lists.
#pragma once

#include <exception>
#include <new>

#include "core/neighbor_list.h"
#include "ops/cpu/list_kernels.h"
#include "ops/neighbor_list.h"

namespace dtnn {

// Finds the bonds, and returns use(search, parallel); errors come under the name of the op.
template <typename Use>
auto with_neighbor_search(const char* op, const NeighborListArguments& arguments, const Use& use) {
  const std::vector<int64_t> ptr = crystal_bounds(op, arguments);
  const double* cutoffs = arguments.cutoffs ? arguments.cutoffs->const_data_ptr<double>() : &arguments.cutoff;
  const NeighborListInput input{arguments.positions.const_data_ptr<double>(),
                                arguments.cell.const_data_ptr<double>(),
                                arguments.pbc.const_data_ptr<bool>(),
                                ptr.data(),
                                arguments.num_atoms(),
                                arguments.num_crystals(),
                                arguments.cell.dim() == 2,
                                arguments.pbc.dim() == 1,
                                cutoffs,
                                !arguments.cutoffs,
                                arguments.half,
                                arguments.self_pairs};
  const Parallel parallel = torch_threads();
  try {
    const NeighborSearch search(input, parallel);
    return use(search, parallel);
  } catch (const std::bad_alloc&) {
    DTNN_CHECK(false, op, ": the list does not fit into memory: is the `cutoff` too large?");
  } catch (const std::logic_error& error) {  // what the core throws on a bad argument
    DTNN_CHECK(false, op, ": ", error.what());
  }
}

}  // namespace dtnn
