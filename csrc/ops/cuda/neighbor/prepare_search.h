// SPDX-License-Identifier: MIT
// Launchers of the steps before the search: the description of each crystal, and the bins of large ones.
#pragma once

#include "../neighbor_list.h"

namespace dtnn::cuda {

// Fills buffers.crystals and crystal_of_atom, and reports faults. Large crystals are described only `with_large`.
const char* launch_describe_crystals(const NeighborListArgs& args, const NeighborBuffers& buffers, bool with_large,
                                     void* stream);

// Sorts the atoms of the crystals that are searched by grid into their bins. A crystal has at most as many bins as
// atoms; in bin_start they begin at its first atom.
const char* launch_sort_into_bins(const NeighborListArgs& args, const NeighborBuffers& buffers, void* stream);

}  // namespace dtnn::cuda
