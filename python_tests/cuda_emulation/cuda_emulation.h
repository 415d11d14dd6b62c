// SPDX-License-Identifier: MIT
// A subset of CUDA on the host, for tests: a .cu file compiled by g++ with -DDTNN_EMULATE_CUDA runs its kernels on the
// CPU, one fiber per CUDA thread, one block after the other. docs/cuda_emulation.md says what this can show and what it
// cannot.
#pragma once

#include "emulation/device.h"
#include "emulation/engine.h"
#include "emulation/intrinsics.h"
#include "emulation/types.h"
