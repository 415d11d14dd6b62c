// SPDX-License-Identifier: MIT
// The network of `decode` as a tile program, for the CPU and CUDA.
#pragma once

#include "core/tile_program.h"
#include "ops/decode.h"

namespace dtnn {

// A member's decoder. Inputs: scalar, vector, rank2, (bond_vector, envelope_sum, bond_sums of each block), masks.
// Outputs: the atoms' tensors of each readout.
TileProgram decode_program(const DecodeArgs& args, const DecodeNeeds& needs);

void check_num_weights(const char* op, const DecodeArgs& args, const TileProgram& program);

}  // namespace dtnn
