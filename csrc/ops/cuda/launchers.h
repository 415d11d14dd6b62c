// SPDX-License-Identifier: MIT
// The CUDA kernels as plain C++ functions: what the torch side (csrc/ops/*.cpp) and the host emulation call. Each
// operation declares its own in <op>.h.
//
// Common rules. Pointers are device pointers to contiguous memory, on the device that is current in the calling thread;
// `stream` is a cudaStream_t. A launcher only enqueues work, it never synchronises and never allocates. It returns
// nullptr, or a message that stays valid until this thread's next launch. Shapes and counts are trusted: the check
// function of the op has run before. Values of indices are not: a bad one makes NaN of what depends on it and is noted
// in `errors` (device_errors.h). Every element of the output is written, so it need not be cleared. Results are the
// same to the bit in every run.
#pragma once

#include <cstdint>

#include "device_errors.h"
