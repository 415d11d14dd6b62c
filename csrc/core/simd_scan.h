// SPDX-License-Identifier: MIT
// The two inner loops of the neighbor search, compiled for several instruction sets and chosen at run time.
#pragma once

#include <cstdint>

namespace dtnn {

// Arrays that `scan` reads must stay readable this many doubles past their end.
constexpr int64_t kScanPadding = 8;

// Points within two radii of a center, squared distances in float64.
struct ScanRadii {
  double inner_squared;
  double outer_squared;
};

struct ScanKernels {
  // Sets bit k of `bits` (64 to a word, ceil(num_points / 64) words) where point k is inside the outer sphere around
  // `center`. Returns whether any point may lie between the two spheres (points past the end may count too).
  bool (*scan)(const double* x, const double* y, const double* z, int64_t num_points, const double center[3],
               ScanRadii radii, uint64_t* bits);
  // Sorts `count` different keys by counting, for each, how many are smaller: no branches, fast for the tens to
  // hundreds of neighbors an atom has.
  void (*sort_keys)(const int64_t* keys, int64_t count, int64_t* sorted);
  const char* name;
};

// The best for this processor (core/simd_level.h).
const ScanKernels& scan_kernels();

}  // namespace dtnn
