// SPDX-License-Identifier: MIT
#include "crystal_grid.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace dtnn {
namespace {

// Above this number of bins for each atom, only occupied bins have a place in memory.
constexpr int64_t kBinsPerAtom = 4;
// Numbers of bins fit into 64 bits.
constexpr double kMostBins = 1 << 20;
// Bins on either side of an atom; physical cells and cutoffs need 14 at most.
constexpr double kLargestReach = 1000;

Vec3 cross(const Vec3& a, const Vec3& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

}  // namespace

CrystalGrid::CrystalGrid(const double* positions, int64_t num_atoms, const double cell[9], double cutoff)
    : cell_(compact_cell(cell)), squared_cutoff_(cutoff * cutoff), place_(num_atoms), bin_(num_atoms) {
  std::array<Vec3, 3> dual;  // coordinate k of r in the compact cell is dual[k] . r
  const double determinant = dot(cell_[0], cross(cell_[1], cell_[2]));
  double wanted[3], product = 1;
  for (int k = 0; k < 3; ++k) {
    dual[k] = cross(cell_[(k + 1) % 3], cell_[(k + 2) % 3]);
    for (double& component : dual[k]) component /= determinant;
    const double bins = std::floor(1 / (cutoff * std::sqrt(dot(dual[k], dual[k]))));
    wanted[k] = std::max(1.0, std::min(bins, kMostBins));
    product *= wanted[k];
  }
  is_sparse_ = product > static_cast<double>(kBinsPerAtom * num_atoms + 8);
  int64_t num_buckets = static_cast<int64_t>(product);
  if (is_sparse_) {
    int bits = 3;
    while ((int64_t{1} << bits) < 2 * num_atoms) ++bits;
    num_buckets = int64_t{1} << bits;
    hash_shift_ = 64 - bits;
  }
  for (int k = 0; k < 3; ++k) {
    num_bins_[k] = static_cast<int64_t>(wanted[k]);
    const double reach = std::floor(cutoff * std::sqrt(dot(dual[k], dual[k])) * wanted[k] * (1 + 1e-9)) + 1;
    if (!(reach <= kLargestReach)) throw std::length_error("the `cutoff` is too large for the `cell`");
    reach_[k] = static_cast<int64_t>(reach);
  }

  std::vector<Point> placed(num_atoms);
  bucket_start_.assign(num_buckets + 1, 0);
  for (int64_t i = 0; i < num_atoms; ++i) {
    Vec3 r = {positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]};
    Vec3 coordinate;
    for (int k = 0; k < 3; ++k) coordinate[k] = dot(dual[k], r);
    for (int k = 0; k < 3; ++k) {
      const double cells = std::floor(coordinate[k]);
      coordinate[k] -= cells;
      for (int m = 0; m < 3; ++m) r[m] -= cells * cell_[k][m];
      // 0 for NaN, so that no number leads out of the bins.
      const double bin = coordinate[k] * wanted[k];
      bin_[i][k] = bin > 0 ? static_cast<int32_t>(std::min(bin, wanted[k] - 1)) : 0;
    }
    placed[i] = {r[0], r[1], r[2], i, bin_number(bin_[i][0], bin_[i][1], bin_[i][2])};
    ++bucket_start_[bucket(placed[i].bin) + 1];
  }
  for (int64_t place = 0; place < num_buckets; ++place) bucket_start_[place + 1] += bucket_start_[place];
  std::vector<int64_t> next(bucket_start_.begin(), bucket_start_.end() - 1);
  points_.resize(num_atoms);
  for (int64_t i = 0; i < num_atoms; ++i) {
    place_[i] = next[bucket(placed[i].bin)]++;
    points_[place_[i]] = placed[i];
  }
}

}  // namespace dtnn
