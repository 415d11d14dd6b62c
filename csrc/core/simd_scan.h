// SPDX-License-Identifier: MIT
// The inner loops of the neighbor search, compiled for several instruction sets and chosen at run time.
#pragma once

#include <cstdint>

namespace dtnn {

// Arrays that the kernels read must stay readable this many elements past their end.
constexpr int64_t kScanPadding = 32;

// Points within two radii of a center, squared distances in float64.
struct ScanRadii {
  double inner_squared;
  double outer_squared;
};

// Points with keys, and runs of them.
struct ScanPoints {
  const double *x, *y, *z;
  const int32_t* key;
};

struct ScanRun {
  int64_t first, count;
};

struct ScanResult {
  int64_t num_points;
  bool in_band;  // whether any point lies between the two spheres
};

struct ScanKernels {
  // Sets bit k of `bits` (64 to a word, ceil(num_points / 64) words) where point k is inside the outer sphere around
  // `center`. Returns whether any point may lie between the two spheres (points past the end may count too).
  bool (*scan)(const double* x, const double* y, const double* z, int64_t num_points, const double center[3],
               ScanRadii radii, uint64_t* bits);
  // Collects the keys of the points of the runs that are inside the outer sphere, in their order. `keys` has room for
  // all points of the runs and kScanPadding more.
  ScanResult (*collect)(const ScanPoints& points, const ScanRun* runs, int64_t num_runs, const double center[3],
                        ScanRadii radii, int32_t* keys);
  // Sorts `count` different keys by counting, for each, how many are smaller: no branches, fast for the tens to
  // hundreds of neighbors an atom has. Reads kScanPadding keys past the end.
  void (*sort_keys)(const int32_t* keys, int64_t count, int32_t* sorted);
  const char* name;
};

// The best for this processor (core/simd_level.h).
const ScanKernels& scan_kernels();

}  // namespace dtnn
