// SPDX-License-Identifier: MIT
// The networks of atom_network.h as tile programs. need_<...> says of which inputs backward computes gradients.
#pragma once

#include "core/tile_program.h"

namespace dtnn {

struct Channels {
  int64_t scalar;
  int64_t vector;
  int64_t rank2;
};

TileProgram update_program(const Channels& c, bool need_atoms, bool need_sums, bool need_weights);
TileProgram readout_program(const Channels& c, const Channels& out, bool need_atoms, bool need_weights);

}  // namespace dtnn
