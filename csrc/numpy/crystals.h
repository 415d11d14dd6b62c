// SPDX-License-Identifier: MIT
// Functions of the NumPy module that answer questions about many crystals at once; crystals.cpp has their arguments.
#pragma once

#include <pybind11/pybind11.h>

namespace dtnn {

void add_crystal_functions(pybind11::module_& module);

}  // namespace dtnn
