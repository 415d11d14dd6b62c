// SPDX-License-Identifier: MIT
// Functions of the NumPy module about many crystals at once; crystals.cpp has their arguments.
#pragma once

#include <vector>

#include "functions.h"

namespace dtnn {

// The number of crystals. Throws std::invalid_argument for a `ptr` that does not rise from 0 to the number of atoms.
int64_t count_crystals(const Array<int64_t>& ptr, int64_t num_atoms);

std::vector<PyMethodDef> crystal_functions();

}  // namespace dtnn
