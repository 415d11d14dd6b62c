// SPDX-License-Identifier: MIT
#include "bin_grid.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "simd_scan.h"

namespace dtnn {
namespace {

// Bins a cutoff is wide, along each direction. Rows along the last direction are contiguous, so fine bins cost nothing
// there and cut the ends off; across it, fewer and longer runs are faster.
constexpr double kBinsPerCutoff[3] = {1, 1, 4};
// Sparse atoms (a molecule in vacuum, far fragments) must not cost more bins than this many for each atom.
constexpr int64_t kBinsPerAtom = 8;
// Shifts stay below 2^31 when each of their parts stays below this.
constexpr int64_t kLargestShift = int64_t{1} << 29;
// Smallest number of atoms that a thread sorts.
constexpr int64_t kAtomsPerChunk = 2048;

// Not 0: distances are divided by it.
double reach_distance(const SearchCrystal& crystal) {
  return std::max(crystal.cutoff + 2 * crystal.tolerance, std::numeric_limits<double>::min());
}

double extent(const SearchCrystal& crystal, int k) {
  return k < crystal.lattice.num_periodic ? crystal.lattice.height[k] : crystal.highest[k] - crystal.lowest[k];
}

[[noreturn]] void too_far() {
  throw std::invalid_argument("`positions`: atoms too many cells apart for shifts of 32 bits");
}

}  // namespace

double BinGrid::estimate(const SearchCrystal& crystal) {
  const double distance = reach_distance(crystal);
  double scanned = static_cast<double>(crystal.num_atoms), points = scanned;
  for (int k = 0; k < 3; ++k) {
    const double width = distance * (2 + 1 / kBinsPerCutoff[k]) + 1e-300;
    if (k < crystal.lattice.num_periodic) {
      scanned *= width / extent(crystal, k);
      points *= 1 + 2 * distance / extent(crystal, k);
    } else {
      scanned *= std::min(1.0, width / (extent(crystal, k) + 1e-300));
    }
  }
  return static_cast<double>(crystal.num_atoms) * (2.6 * scanned + 60) + 23 * points + 2000;  // measured
}

BinGrid::BinGrid(const SearchCrystal& crystal, const Parallel& parallel) {
  make_axes(crystal);
  list_translations(crystal.lattice, crystal.num_atoms);
  sort_points(crystal, parallel);
}

void BinGrid::make_axes(const SearchCrystal& crystal) {
  const double distance = reach_distance(crystal);
  const double max_bins = static_cast<double>(kBinsPerAtom * crystal.num_atoms + 64);
  double wanted[3], product = 1;
  for (int k = 0; k < 3; ++k) {
    wanted[k] = std::max(1.0, std::min(std::floor(kBinsPerCutoff[k] * extent(crystal, k) / distance), max_bins));
    product *= wanted[k];
  }
  while (product > max_bins) {
    double& most = *std::max_element(wanted, wanted + 3);
    product /= most;
    most = std::max(1.0, std::floor(most / 2));
    product *= most;
  }
  for (int k = 0; k < 3; ++k) {
    Axis& a = axis[k];
    const bool periodic = k < crystal.lattice.num_periodic;
    const double span = periodic ? 1.0 : std::max(crystal.highest[k] - crystal.lowest[k], 1e-300);
    a.num_bins = static_cast<int64_t>(wanted[k]);
    a.lowest = periodic ? 0.0 : crystal.lowest[k];
    a.bins_per_unit = wanted[k] / span;
    const double reach = std::floor(distance / crystal.lattice.height[k] * a.bins_per_unit * (1 + 1e-6)) + 1;
    if (periodic && reach > 1e9) throw std::length_error("the `cutoff` is too large for the `cell`");
    a.reach = static_cast<int64_t>(periodic ? reach : std::min(reach, wanted[k]));
    a.first_own = periodic ? a.reach : 0;
    a.num_extended = a.num_bins + 2 * a.first_own;
    for (int64_t b = 0; b < a.num_bins; ++b) {
      const int64_t bin = b + a.first_own;
      steps_[k].push_back(
          {static_cast<int32_t>(-(bin / a.num_bins)), static_cast<int32_t>((a.num_extended - 1 - bin) / a.num_bins)});
    }
  }
}

void BinGrid::list_translations(const Lattice& lattice, int64_t num_atoms) {
  const int64_t n0 = axis[0].images(), n1 = axis[1].images(), n2 = axis[2].images();
  struct Translation {
    std::array<int64_t, 3> shift, steps;
    bool operator<(const Translation& other) const { return shift < other.shift; }
  };
  std::vector<Translation> all;
  for (int64_t s0 = -n0; s0 <= n0; ++s0)
    for (int64_t s1 = -n1; s1 <= n1; ++s1)
      for (int64_t s2 = -n2; s2 <= n2; ++s2) all.push_back({lattice.to_shift({s0, s1, s2}), {s0, s1, s2}});
  std::sort(all.begin(), all.end());
  image_number_.resize(all.size());
  for (size_t t = 0; t < all.size(); ++t) {
    const std::array<int64_t, 3>& steps = all[t].steps;
    Shift shift;
    Vec3 vector{};
    for (int m = 0; m < 3; ++m) {
      if (std::llabs(all[t].shift[m]) > kLargestShift)
        throw std::invalid_argument(
            "shifts beyond 32-bit integers: the `cell` is too small or skewed for this `cutoff`");
      shift[m] = static_cast<int32_t>(all[t].shift[m]);
    }
    for (int k = 0; k < lattice.num_periodic; ++k)
      for (int m = 0; m < 3; ++m) vector[m] += static_cast<double>(steps[k]) * lattice.basis[k][m];
    image_shift.push_back(shift);
    image_vector_.push_back(vector);
    image_number_[steps_index(steps[0], steps[1], steps[2])] = static_cast<int64_t>(t);
  }
  no_translation = static_cast<int64_t>(all.size()) / 2;
  while ((int64_t{1} << image_bits) < static_cast<int64_t>(all.size())) ++image_bits;
  if (num_atoms > std::numeric_limits<int32_t>::max() >> image_bits)
    throw std::length_error("more atoms and images in one crystal than 32-bit numbers can tell apart");
}

// Moves an atom into the reduced cell and returns its position there.
Vec3 BinGrid::place_atom(const SearchCrystal& crystal, int64_t i, Bin& bin) {
  const Lattice& lattice = crystal.lattice;
  Vec3 r = crystal.difference(0, i);
  Vec3 coordinate;
  std::array<int64_t, 3> steps{};
  for (int k = 0; k < 3; ++k) coordinate[k] = dot(lattice.dual[k], r);
  for (int k = 0; k < lattice.num_periodic; ++k) {
    const double cells = std::floor(coordinate[k]);
    coordinate[k] -= cells;
    steps[k] = -static_cast<int64_t>(cells);
    for (int m = 0; m < 3; ++m) r[m] -= cells * lattice.basis[k][m];
  }
  const std::array<int64_t, 3> shift = lattice.to_shift(steps);
  for (int m = 0; m < 3; ++m) {
    if (std::llabs(shift[m]) > kLargestShift) too_far();
    home[i][m] = static_cast<int32_t>(shift[m]);
  }
  for (int k = 0; k < 3; ++k) {
    const int64_t number = static_cast<int64_t>((coordinate[k] - axis[k].lowest) * axis[k].bins_per_unit);
    bin[k] = static_cast<int32_t>(std::max<int64_t>(0, std::min<int64_t>(number, axis[k].num_bins - 1)));
  }
  return r;
}

// visit(bin, number of the translation) for an atom in this own bin and its images.
template <typename Visit>
void BinGrid::for_each_image(const Bin& bin, const Visit& visit) const {
  const Steps &steps0 = steps_[0][bin[0]], &steps1 = steps_[1][bin[1]], &steps2 = steps_[2][bin[2]];
  for (int64_t s0 = steps0.first; s0 <= steps0.last; ++s0) {
    const int64_t b0 = bin[0] + axis[0].first_own + s0 * axis[0].num_bins;
    for (int64_t s1 = steps1.first; s1 <= steps1.last; ++s1) {
      const int64_t b1 = bin[1] + axis[1].first_own + s1 * axis[1].num_bins;
      for (int64_t s2 = steps2.first; s2 <= steps2.last; ++s2) {
        const int64_t b2 = bin[2] + axis[2].first_own + s2 * axis[2].num_bins;
        visit(flat_bin(b0, b1, b2), image_number_[steps_index(s0, s1, s2)]);
      }
    }
  }
}

// A counting sort. Each thread counts and later moves the points of its own chunk of atoms, so that the points of a bin
// come in the order of the atoms, for any number of chunks.
void BinGrid::sort_points(const SearchCrystal& crystal, const Parallel& parallel) {
  const int64_t num_atoms = crystal.num_atoms;
  const int64_t num_bins = axis[0].num_extended * axis[1].num_extended * axis[2].num_extended;
  const int64_t num_chunks = std::max<int64_t>(1, std::min<int64_t>(parallel.num_threads, num_atoms / kAtomsPerChunk));
  const auto chunk_begin = [&](int64_t chunk) { return num_atoms * chunk / num_chunks; };
  home.resize(num_atoms);
  std::vector<Vec3> placed(num_atoms);
  std::vector<Bin> bins(num_atoms);
  // First the number of points, then the place of the next one; [chunk][bin].
  std::vector<std::vector<int64_t>> next(num_chunks);
  for_each_task(parallel, num_chunks, [&](int64_t chunk) {
    next[chunk].assign(num_bins, 0);
    int64_t* const counts = next[chunk].data();
    for (int64_t i = chunk_begin(chunk); i < chunk_begin(chunk + 1); ++i) {
      placed[i] = place_atom(crystal, i, bins[i]);
      for_each_image(bins[i], [&](int64_t bin, int64_t) { ++counts[bin]; });
    }
  });
  bin_start.resize(num_bins + 1);
  int64_t num_points = 0;
  for (int64_t bin = 0; bin < num_bins; ++bin) {
    bin_start[bin] = num_points;
    for (std::vector<int64_t>& chunk : next) {
      const int64_t count = chunk[bin];
      chunk[bin] = num_points;
      num_points += count;
    }
  }
  bin_start[num_bins] = num_points;
  for (std::vector<double>* values : {&x, &y, &z}) values->resize(num_points + kScanPadding);
  key.resize(num_points + kScanPadding);
  for_each_task(parallel, num_chunks, [&](int64_t chunk) {
    int64_t* const places = next[chunk].data();
    for (int64_t i = chunk_begin(chunk); i < chunk_begin(chunk + 1); ++i) {
      for_each_image(bins[i], [&](int64_t bin, int64_t t) {
        const int64_t point = places[bin]++;
        x[point] = placed[i][0] + image_vector_[t][0];
        y[point] = placed[i][1] + image_vector_[t][1];
        z[point] = placed[i][2] + image_vector_[t][2];
        key[point] = static_cast<int32_t>((i << image_bits) | t);
      });
    }
  });
}

}  // namespace dtnn
