// SPDX-License-Identifier: MIT
// A cell's periodic part in a short basis, on the device: core/lattice.cpp says why and how. Here basis vector k
// belongs to direction k of the cell, periodic or not, and everything is unrolled, so that the arrays live in
// registers. core/lattice.h says why there are two reductions, and python_tests/cuda/test_device_lattice_cuda.py tests
// that they agree.
#pragma once

#include "../gpu.h"

namespace dtnn::cuda {

struct Lattice {
  bool periodic[3];
  double basis[3][3];         // short vectors of the same translations; where not periodic, orthogonal unit vectors
  int64_t combination[3][3];  // basis[k] = sum_m combination[k][m] cell[m] for periodic k
  double dual[3][3];          // coordinate k of r in the basis is dual[k] . r
  double height[3];           // distance between the planes of integer coordinate k
  double rounding_length[3];  // bounds the rounding error of one step along basis[k]
  bool keeps_cell;            // the basis is the cell's own vectors

  __device__ int num_periodic() const { return periodic[0] + periodic[1] + periodic[2]; }
};

__device__ inline double dot(const double a[3], const double b[3]) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
__device__ inline double length(const double a[3]) { return sqrt(dot(a, a)); }
__device__ inline void cross(const double a[3], const double b[3], double out[3]) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}
__device__ inline void scale(double a[3], double factor) {
#pragma unroll
  for (int x = 0; x < 3; ++x) a[x] *= factor;
}

constexpr double kLargestCombination = 1073741824;  // 2^30, so that a product of two fits into int64

enum class Shortened { kNo, kYes, kDegenerate };

// Adds steps_1 basis[1] + steps_2 basis[2] to basis[0] if that makes it clearly shorter.
__device__ __forceinline__ Shortened shorten(Lattice& lattice, double steps_1, double steps_2) {
  constexpr double kClearly = 1 - 1e-6;
  double candidate[3];
#pragma unroll
  for (int x = 0; x < 3; ++x) {
    candidate[x] = lattice.basis[0][x] + steps_1 * lattice.basis[1][x] + steps_2 * lattice.basis[2][x];
  }
  if (!(dot(candidate, candidate) < kClearly * dot(lattice.basis[0], lattice.basis[0]))) return Shortened::kNo;
  lattice.keeps_cell = false;
  bool fits = true;
#pragma unroll
  for (int x = 0; x < 3; ++x) {
    lattice.basis[0][x] = candidate[x];
    const int64_t sum = lattice.combination[0][x] + static_cast<int64_t>(steps_1) * lattice.combination[1][x] +
                        static_cast<int64_t>(steps_2) * lattice.combination[2][x];
    lattice.combination[0][x] = sum;
    fits &= fabs(static_cast<double>(sum)) <= kLargestCombination;
  }
  return fits ? Shortened::kYes : Shortened::kDegenerate;
}

// The next vector becomes the first.
__device__ __forceinline__ void rotate(Lattice& lattice) {
  const bool first = lattice.periodic[0];
  lattice.periodic[0] = lattice.periodic[1], lattice.periodic[1] = lattice.periodic[2], lattice.periodic[2] = first;
#pragma unroll
  for (int x = 0; x < 3; ++x) {
    const double vector = lattice.basis[0][x];
    lattice.basis[0][x] = lattice.basis[1][x], lattice.basis[1][x] = lattice.basis[2][x], lattice.basis[2][x] = vector;
    const int64_t steps = lattice.combination[0][x];
    lattice.combination[0][x] = lattice.combination[1][x];
    lattice.combination[1][x] = lattice.combination[2][x];
    lattice.combination[2][x] = steps;
  }
}

// Shortens the first vector by multiples of another periodic one (`other`, 1 or 2).
__device__ __forceinline__ Shortened shorten_by(Lattice& lattice, int other) {
  if (!lattice.periodic[0] || !lattice.periodic[other]) return Shortened::kNo;
  const double steps =
      -rint(dot(lattice.basis[0], lattice.basis[other]) / dot(lattice.basis[other], lattice.basis[other]));
  if (!(fabs(steps) <= kLargestCombination)) return Shortened::kDegenerate;
  if (steps == 0) return Shortened::kNo;
  return other == 1 ? shorten(lattice, steps, 0) : shorten(lattice, 0, steps);
}

// Until no vector gets shorter by multiples of another one or by one of each other. False for dependent vectors.
__device__ inline bool reduce(Lattice& lattice) {
  for (bool changed = true; changed;) {
    changed = false;
#pragma unroll 1
    for (int turn = 0; turn < 3; ++turn) {
      Shortened result = shorten_by(lattice, 1);
      if (result == Shortened::kNo) result = shorten_by(lattice, 2);
      if (lattice.num_periodic() == 3) {
#pragma unroll 1
        for (int sign = 0; result == Shortened::kNo && sign < 4; ++sign) {
          result = shorten(lattice, sign & 1 ? 1 : -1, sign & 2 ? 1 : -1);
        }
      }
      if (result == Shortened::kDegenerate) return false;
      changed |= result == Shortened::kYes;
      rotate(lattice);
    }
  }
  return true;
}

// Orthogonal unit vectors for the directions that are not periodic.
__device__ inline void complete(Lattice& lattice) {
  const int n = lattice.num_periodic();
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    double* const next = lattice.basis[(k + 1) % 3];
    double* const last = lattice.basis[(k + 2) % 3];
    if (n == 0) {
#pragma unroll
      for (int x = 0; x < 3; ++x) lattice.basis[k][x] = x == k;
    } else if (n == 1 && lattice.periodic[k]) {
      const double a = fabs(lattice.basis[k][0]), b = fabs(lattice.basis[k][1]), c = fabs(lattice.basis[k][2]);
      const int smallest = a <= b && a <= c ? 0 : b <= c ? 1 : 2;
      const double axis[3] = {smallest == 0 ? 1.0 : 0.0, smallest == 1 ? 1.0 : 0.0, smallest == 2 ? 1.0 : 0.0};
      cross(lattice.basis[k], axis, next);
      scale(next, 1 / length(next));
      cross(lattice.basis[k], next, last);
      scale(last, 1 / length(last));
    } else if (n == 2 && !lattice.periodic[k]) {
      cross(next, last, lattice.basis[k]);
      scale(lattice.basis[k], 1 / length(lattice.basis[k]));
    }
  }
}

// The lattice of a cell of finite numbers; false when its periodic vectors have no volume.
__device__ inline bool make_lattice(const double cell[9], const bool periodic[3], Lattice& lattice) {
  // A periodic vector this much shorter than another one, after reduction, is rounding noise of dependent vectors, and
  // a reduced basis with this little volume is flat: see core/lattice.cpp.
  constexpr double kSmallestLengthRatio = 1e-10, kSmallestVolumeRatio = 1e-5;
  double longest = 0;
  bool valid = true;
  lattice.keeps_cell = true;
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    lattice.periodic[k] = periodic[k];
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      lattice.basis[k][x] = periodic[k] ? cell[3 * k + x] : 0;
      lattice.combination[k][x] = k == x;
    }
    const double squared = dot(lattice.basis[k], lattice.basis[k]);
    valid &= !periodic[k] || (squared > 0 && isfinite(squared));
    longest = fmax(longest, sqrt(squared));
  }
  if (!valid || !reduce(lattice)) return false;

  double product = 1;
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    lattice.rounding_length[k] = 1;
    if (!lattice.periodic[k]) continue;
    lattice.rounding_length[k] = 0;
    double exact[3] = {0, 0, 0};  // from the integers, so that rounding errors of the reduction do not stay
#pragma unroll
    for (int m = 0; m < 3; ++m) {
      const double steps = static_cast<double>(lattice.combination[k][m]);
      if (steps == 0) continue;
#pragma unroll
      for (int x = 0; x < 3; ++x) exact[x] += steps * cell[3 * m + x];
      lattice.rounding_length[k] += fabs(steps) * length(cell + 3 * m);
    }
#pragma unroll
    for (int x = 0; x < 3; ++x) lattice.basis[k][x] = exact[x];
    const double norm = length(exact);
    valid &= norm > kSmallestLengthRatio * longest;
    product *= norm;
  }
  complete(lattice);
  double normal[3];
  cross(lattice.basis[1], lattice.basis[2], normal);
  const double determinant = dot(lattice.basis[0], normal), volume = fabs(determinant);
  constexpr double kSmallestNormal = 2.2250738585072014e-308;
  valid &= volume > kSmallestVolumeRatio * product && volume >= kSmallestNormal && isfinite(volume);
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    cross(lattice.basis[(k + 1) % 3], lattice.basis[(k + 2) % 3], lattice.dual[k]);
    scale(lattice.dual[k], 1 / determinant);
    lattice.height[k] = 1 / length(lattice.dual[k]);
  }
  return valid;
}

}  // namespace dtnn::cuda
