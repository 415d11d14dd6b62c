// SPDX-License-Identifier: MIT
// What the argument `precision` of an operation means on the CPU.
#pragma once

#include <cstdint>

#include "core/simd_level.h"

namespace dtnn {

// Whether products of float32 round their factors to bfloat16: for precision 2 ("medium"), where the processor has the
// instruction. Otherwise they stay in float32, as torch's own do.
inline bool multiplies_in_bf16(int64_t precision) { return precision == 2 && bf16_products() != Bf16Products::kNone; }

}  // namespace dtnn
