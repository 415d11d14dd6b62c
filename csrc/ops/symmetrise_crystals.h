// SPDX-License-Identifier: MIT
// symmetrise_crystals(positions [N, 3] f64, cell [B, 3, 3] f64, ptr [B+1], atomic_numbers [N] i64,
//                     rotations [G, 3, 3] i32, images [G] i64, operation_ptr [B+1], tolerance)
//   -> positions [N, 3] f64, cell [B, 3, 3] f64, atoms [M] i32, shifts [M, 3] i32, displacement [B] f64,
//      strain [B] f64, faults [B, 2] i64
//
// Each crystal made exactly symmetric under its operations (core/symmetry_operations.h); M = sum over the crystals of
// operations times atoms, operation after operation. `images` and `atoms` number the atoms of their crystal from 0.
// faults[b] is (0, 0), or a SymmetryFault and its detail: then the crystal's rows are as given, or unspecified in
// `atoms` and `shifts`. The kernel runs on the CPU; CUDA tensors are copied to it and the results back. Empties: B may
// be 0, but every crystal has atoms and operations. The same bits for any number of threads. Not differentiable.
#pragma once

#include <tuple>

#include "crystal_operations.h"

namespace dtnn {

// positions, cell, atoms, shifts, displacement, strain, faults
using SymmetrisedTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Called after the checks, with tensors on the CPU.
SymmetrisedTensors symmetrise_crystals_cpu(const CrystalOperations& crystals, const Tensor& atomic_numbers,
                                           const Tensor& images, double tolerance);

}  // namespace dtnn
