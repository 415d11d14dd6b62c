// SPDX-License-Identifier: MIT
#include "neighbor_grid.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "simd_scan.h"

namespace dtnn {
namespace {

// Bins a cutoff is wide, along each direction. Rows along the last direction are contiguous, so fine bins cost nothing
// there and cut the ends off; across it, fewer and longer runs are faster.
constexpr double kBinsPerCutoff[3] = {1, 1, 4};
// Sparse atoms (a molecule in vacuum, far fragments) must not cost more bins than this many for each atom.
constexpr int64_t kBinsPerAtom = 8;
// Above this number of bonds an atom, n log n beats counting.
constexpr int64_t kSortByCounting = 256;
// Shifts stay below 2^31 when each of their parts stays below this.
constexpr int64_t kLargestShift = int64_t{1} << 29;

// Not 0, for distances are divided by it.
double reach_distance(const SearchCrystal& crystal) {
  return std::max(crystal.cutoff + 2 * crystal.tolerance, std::numeric_limits<double>::min());
}

double extent(const SearchCrystal& crystal, int k) {
  return k < crystal.lattice.num_periodic ? crystal.lattice.height[k] : crystal.highest[k] - crystal.lowest[k];
}

[[noreturn]] void too_far() {
  throw std::invalid_argument("`positions`: atoms too many cells apart for shifts of 32 bits");
}

int lowest_bit(uint64_t word) { return __builtin_ctzll(word); }

}  // namespace

double GridSearch::estimate(const SearchCrystal& crystal) {
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
  return static_cast<double>(crystal.num_atoms) * (4 * scanned + 90) + 35 * points + 2000;  // measured
}

GridSearch::GridSearch(const SearchCrystal& crystal) : crystal_(crystal) {
  make_axes();
  list_translations();
  place_atoms();
  sort_points();
}

void GridSearch::make_axes() {
  const double distance = reach_distance(crystal_);
  const double max_bins = static_cast<double>(kBinsPerAtom * crystal_.num_atoms + 64);
  double wanted[3], product = 1;
  for (int k = 0; k < 3; ++k) {
    wanted[k] = std::max(1.0, std::min(std::floor(kBinsPerCutoff[k] * extent(crystal_, k) / distance), max_bins));
    product *= wanted[k];
  }
  while (product > max_bins) {
    double& most = *std::max_element(wanted, wanted + 3);
    product /= most;
    most = std::max(1.0, std::floor(most / 2));
    product *= most;
  }
  for (int k = 0; k < 3; ++k) {
    Axis& axis = axis_[k];
    const bool periodic = k < crystal_.lattice.num_periodic;
    const double span = periodic ? 1.0 : std::max(crystal_.highest[k] - crystal_.lowest[k], 1e-300);
    axis.num_bins = static_cast<int64_t>(wanted[k]);
    axis.lowest = periodic ? 0.0 : crystal_.lowest[k];
    axis.bins_per_unit = wanted[k] / span;
    const double reach = std::floor(distance / crystal_.lattice.height[k] * axis.bins_per_unit * (1 + 1e-6)) + 1;
    if (periodic && reach > 1e9) throw std::length_error("the `cutoff` is too large for the `cell`");
    axis.reach = static_cast<int64_t>(periodic ? reach : std::min(reach, wanted[k]));
    axis.images = periodic ? (axis.reach + axis.num_bins - 1) / axis.num_bins : 0;
    axis.num_extended = periodic ? axis.num_bins + 2 * axis.reach : axis.num_bins;
  }
}

void GridSearch::list_translations() {
  const Lattice& lattice = crystal_.lattice;
  const int64_t n0 = axis_[0].images, n1 = axis_[1].images, n2 = axis_[2].images;
  struct Translation {
    std::array<int64_t, 3> shift, steps;
    bool operator<(const Translation& other) const { return shift < other.shift; }
  };
  std::vector<Translation> all;
  for (int64_t s0 = -n0; s0 <= n0; ++s0)
    for (int64_t s1 = -n1; s1 <= n1; ++s1)
      for (int64_t s2 = -n2; s2 <= n2; ++s2) all.push_back({lattice.to_shift({s0, s1, s2}), {s0, s1, s2}});
  std::sort(all.begin(), all.end());
  for (const Translation& translation : all) {
    Shift shift;
    for (int m = 0; m < 3; ++m) {
      if (std::llabs(translation.shift[m]) > kLargestShift)
        throw std::invalid_argument(
            "shifts beyond 32-bit integers: the `cell` is too small or skewed for this `cutoff`");
      shift[m] = static_cast<int32_t>(translation.shift[m]);
    }
    image_shift_.push_back(shift);
    image_steps_.push_back(translation.steps);
  }
  image_number_.resize(all.size());
  for (size_t t = 0; t < all.size(); ++t)
    image_number_[steps_index(all[t].steps[0], all[t].steps[1], all[t].steps[2])] = static_cast<int64_t>(t);
  no_translation_ = static_cast<int64_t>(all.size()) / 2;
  while ((int64_t{1} << image_bits_) < static_cast<int64_t>(all.size())) ++image_bits_;
}

void GridSearch::place_atoms() {
  const Lattice& lattice = crystal_.lattice;
  placed_.resize(crystal_.num_atoms);
  home_.resize(crystal_.num_atoms);
  bin_.resize(crystal_.num_atoms);
  for (int64_t i = 0; i < crystal_.num_atoms; ++i) {
    Vec3 r = crystal_.difference(0, i);
    Vec3 coordinate;
    std::array<int64_t, 3> steps{};
    for (int k = 0; k < 3; ++k) coordinate[k] = dot(lattice.dual[k], r);
    for (int k = 0; k < lattice.num_periodic; ++k) {
      const double cells = std::floor(coordinate[k]);
      coordinate[k] -= cells;
      steps[k] = -static_cast<int64_t>(cells);
      for (int x = 0; x < 3; ++x) r[x] -= cells * lattice.basis[k][x];
    }
    const std::array<int64_t, 3> shift = lattice.to_shift(steps);
    for (int m = 0; m < 3; ++m) {
      if (std::llabs(shift[m]) > kLargestShift) too_far();
      home_[i][m] = static_cast<int32_t>(shift[m]);
    }
    placed_[i] = r;
    for (int k = 0; k < 3; ++k) {
      const double bin = (coordinate[k] - axis_[k].lowest) * axis_[k].bins_per_unit;
      bin_[i][k] = static_cast<int32_t>(
          std::max<int64_t>(0, std::min<int64_t>(static_cast<int64_t>(bin), axis_[k].num_bins - 1)));
    }
  }
}

void GridSearch::sort_points() {
  const Lattice& lattice = crystal_.lattice;
  // Calls visit(bin, translation) for every image of an atom in `bin` that lies in the extended grid.
  const auto for_each_image = [&](const std::array<int32_t, 3>& bin, const auto& visit) {
    int64_t first[3], last[3], shifted[3];
    for (int k = 0; k < 3; ++k) {
      const Axis& axis = axis_[k];
      first[k] = -((extended_bin(k, bin[k])) / axis.num_bins);
      last[k] = (axis.num_extended - 1 - extended_bin(k, bin[k])) / axis.num_bins;
    }
    for (int64_t s0 = first[0]; s0 <= last[0]; ++s0) {
      shifted[0] = extended_bin(0, bin[0]) + s0 * axis_[0].num_bins;
      for (int64_t s1 = first[1]; s1 <= last[1]; ++s1) {
        shifted[1] = extended_bin(1, bin[1]) + s1 * axis_[1].num_bins;
        for (int64_t s2 = first[2]; s2 <= last[2]; ++s2) {
          shifted[2] = extended_bin(2, bin[2]) + s2 * axis_[2].num_bins;
          visit((shifted[0] * axis_[1].num_extended + shifted[1]) * axis_[2].num_extended + shifted[2],
                image_number_[steps_index(s0, s1, s2)]);
        }
      }
    }
  };
  bin_start_.assign(axis_[0].num_extended * axis_[1].num_extended * axis_[2].num_extended + 2, 0);
  for (int64_t i = 0; i < crystal_.num_atoms; ++i)
    for_each_image(bin_[i], [&](int64_t flat, int64_t) { ++bin_start_[flat + 2]; });
  std::partial_sum(bin_start_.begin(), bin_start_.end(), bin_start_.begin());
  const int64_t num_points = bin_start_.back();
  std::vector<Vec3> translation(image_steps_.size());
  for (size_t t = 0; t < image_steps_.size(); ++t)
    for (int k = 0; k < lattice.num_periodic; ++k)
      for (int x = 0; x < 3; ++x) translation[t][x] += static_cast<double>(image_steps_[t][k]) * lattice.basis[k][x];
  x_.resize(num_points + kScanPadding);
  y_.resize(num_points + kScanPadding);
  z_.resize(num_points + kScanPadding);
  key_.resize(num_points);
  // bin_start_[b + 1] counts up from the start of bin b to its end, which is the start of bin b + 1.
  for (int64_t i = 0; i < crystal_.num_atoms; ++i) {
    for_each_image(bin_[i], [&](int64_t flat, int64_t t) {
      const int64_t point = bin_start_[flat + 1]++;
      x_[point] = placed_[i][0] + translation[t][0];
      y_[point] = placed_[i][1] + translation[t][1];
      z_[point] = placed_[i][2] + translation[t][2];
      key_[point] = (i << image_bits_) | t;
    });
  }
}

Shift GridSearch::bond_shift(int64_t i, int64_t key) const {
  const int64_t j = key >> image_bits_;
  const Shift& image = image_shift_[key & ((int64_t{1} << image_bits_) - 1)];
  Shift shift;
  for (int m = 0; m < 3; ++m) shift[m] = image[m] + home_[j][m] - home_[i][m];
  return shift;
}

void GridSearch::search(int64_t begin, int64_t end, std::vector<int64_t>& keys, int64_t* counts) const {
  const double inner = std::max(0.0, crystal_.cutoff - crystal_.tolerance),
               outer = crystal_.cutoff + crystal_.tolerance;
  const ScanRadii radii{inner * inner, outer * outer};
  const ScanKernels& kernels = scan_kernels();
  std::vector<uint64_t> bits;
  std::vector<int64_t> found;
  for (int64_t i = begin; i < end; ++i) {
    int64_t first[3], last[3];
    for (int k = 0; k < 3; ++k) {
      const int64_t bin = extended_bin(k, bin_[i][k]);
      first[k] = std::max<int64_t>(0, bin - axis_[k].reach);
      last[k] = std::min<int64_t>(axis_[k].num_extended - 1, bin + axis_[k].reach);
    }
    const int64_t self = (i << image_bits_) | no_translation_;
    int64_t num_found = 0;
    if (crystal_.self_pairs) {
      if (found.empty()) found.resize(1);
      found[num_found++] = self;
    }
    for (int64_t b0 = first[0]; b0 <= last[0]; ++b0) {
      for (int64_t b1 = first[1]; b1 <= last[1]; ++b1) {
        const int64_t row = (b0 * axis_[1].num_extended + b1) * axis_[2].num_extended;
        const int64_t run = bin_start_[row + first[2]], num_points = bin_start_[row + last[2] + 1] - run;
        const int64_t num_words = (num_points + 63) / 64;
        if (static_cast<int64_t>(bits.size()) < num_words) bits.resize(num_words);
        if (static_cast<int64_t>(found.size()) < num_found + num_points) found.resize(2 * (num_found + num_points));
        const bool in_band = kernels.scan(x_.data() + run, y_.data() + run, z_.data() + run, num_points,
                                          placed_[i].data(), radii, bits.data());
        for (int64_t word = 0; word < num_words; ++word) {
          for (uint64_t left = bits[word]; left != 0; left &= left - 1) {
            const int64_t key = key_[run + 64 * word + lowest_bit(left)];
            // Keys order bonds as half lists do: by neighbor, then translation, and the one to itself in between.
            if (key == self || (crystal_.half && key < self)) continue;
            if (in_band && !crystal_.is_bond(i, key >> image_bits_, bond_shift(i, key))) continue;
            found[num_found++] = key;
          }
        }
      }
    }
    const size_t start = keys.size();
    keys.resize(start + num_found);
    if (num_found <= kSortByCounting) {
      kernels.sort_keys(found.data(), num_found, keys.data() + start);
    } else {
      std::sort(found.begin(), found.begin() + num_found);
      std::copy(found.begin(), found.begin() + num_found, keys.begin() + start);
    }
    counts[i - begin] = num_found;
  }
}

void GridSearch::write(int64_t begin, int64_t end, const std::vector<int64_t>& keys, const int64_t* row_ptr,
                       const NeighborListOutput& output) const {
  const int64_t* key = keys.data();
  int64_t* neighbor = output.neighbors + row_ptr[0];
  int32_t* out = output.shifts + 3 * row_ptr[0];
  for (int64_t i = begin; i < end; ++i) {
    const int64_t first = row_ptr[i - begin], last = row_ptr[i - begin + 1];
    std::fill(output.centers + first, output.centers + last, crystal_.first_atom + i);
    for (int64_t bond = first; bond < last; ++bond, ++key, out += 3) {
      *neighbor++ = crystal_.first_atom + (*key >> image_bits_);
      const Shift shift = bond_shift(i, *key);
      for (int m = 0; m < 3; ++m) out[m] = shift[m];
    }
  }
}

}  // namespace dtnn
