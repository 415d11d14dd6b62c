// SPDX-License-Identifier: MIT
// The steps before the search, as launchers: what each crystal needs, and the bins of large ones.
#pragma once

#include "../neighbor_list.h"

namespace dtnn::cuda {

// Fills buffers.crystals and crystal_of_atom, and reports faults. Large crystals are described only `with_large`.
const char* launch_describe_crystals(const NeighborListArgs& args, const NeighborBuffers& buffers, bool with_large,
                                     void* stream);

// Sorts the atoms of the crystals that are searched by grid into their bins. The bins of a crystal are no more than its
// atoms, and begin in bin_start at its first atom.
const char* launch_sort_into_bins(const NeighborListArgs& args, const NeighborBuffers& buffers, void* stream);

}  // namespace dtnn::cuda
