// SPDX-License-Identifier: MIT
#include "neighbor_images.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "simd_scan.h"

namespace dtnn {
namespace {

// Rounds to the nearest integer for |x| < 2^51 without a call into libm, which the baseline instruction set would need.
inline double round_to_integer(double x) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52
  return (x + kMagic) - kMagic;
}

// In plain arithmetic: the baseline instruction set has no population count.
inline int64_t count_bits(uint64_t word) {
  word -= (word >> 1) & 0x5555555555555555;
  word = (word & 0x3333333333333333) + ((word >> 2) & 0x3333333333333333);
  word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
  return static_cast<int64_t>((word * 0x0101010101010101) >> 56);
}

inline int lowest_bit(uint64_t word) { return __builtin_ctzll(word); }
inline int highest_bit(uint64_t word) { return 63 - __builtin_clzll(word); }

[[noreturn]] void too_far() {
  throw std::invalid_argument("`positions`: atoms too many cells apart for shifts of 32 bits");
}

// Half the longest diagonal of the reduced cell: no nearest image is farther away along the periodic directions.
double half_diagonal(const Lattice& lattice) {
  const int n = lattice.num_periodic;
  double longest = 0;
  for (int sign = 0; sign < 4; ++sign) {
    Vec3 sum{};
    for (int k = 0; k < n; ++k)
      for (int x = 0; x < 3; ++x)
        sum[x] += (k > 0 && (sign >> (k - 1)) & 1) ? -lattice.basis[k][x] : lattice.basis[k][x];
    longest = std::max(longest, dot(sum, sum));
  }
  return 0.5 * std::sqrt(longest);
}

}  // namespace

double ImageSearch::table_radius(const SearchCrystal& crystal) {
  return crystal.cutoff + 2 * crystal.tolerance + half_diagonal(crystal.lattice) * (1 + 1e-6);
}

double ImageSearch::estimate(const SearchCrystal& crystal) {
  const double pairs = 0.5 * static_cast<double>(crystal.num_atoms) * static_cast<double>(crystal.num_atoms + 1);
  return pairs * (count_translations(crystal.lattice, table_radius(crystal)) + 20);
}

ImageSearch::ImageSearch(const SearchCrystal& crystal)
    : num_atoms_(crystal.num_atoms), first_atom_(crystal.first_atom), half_(crystal.half) {
  const Lattice& lattice = crystal.lattice;
  translations_ = translations_within(lattice, table_radius(crystal));
  const int64_t num_translations = static_cast<int64_t>(translations_.size());
  num_words_ = (num_translations + 63) / 64;

  std::vector<double> table(3 * (num_translations + kScanPadding));
  const int64_t stride = num_translations + kScanPadding;
  double* const table_axis[3] = {table.data(), table.data() + stride, table.data() + 2 * stride};
  int64_t largest[3] = {0, 0, 0};
  for (int64_t k = 0; k < num_translations; ++k) {
    const Shift& s = translations_[k];
    for (int x = 0; x < 3; ++x) {
      table_axis[x][k] = s[0] * lattice.cell[0][x] + s[1] * lattice.cell[1][x] + s[2] * lattice.cell[2][x];
      largest[x] = std::max<int64_t>(largest[x], std::abs(s[x]));
    }
  }

  std::vector<double> coordinates(3 * num_atoms_);  // along the reduced basis, periodic directions only
  for (int64_t i = 0; i < num_atoms_; ++i) {
    const Vec3 r = crystal.difference(0, i);
    for (int k = 0; k < lattice.num_periodic; ++k) coordinates[3 * i + k] = dot(lattice.dual[k], r);
  }

  const double inner = std::max(0.0, crystal.cutoff - crystal.tolerance), outer = crystal.cutoff + crystal.tolerance;
  const ScanRadii radii{inner * inner, outer * outer};
  const auto scan = scan_kernels().scan;
  offsets_.resize(num_atoms_ * (num_atoms_ + 1) / 2);
  bits_.resize(offsets_.size() * num_words_);
  uint64_t* bits = bits_.data();
  int64_t pair = 0;
  for (int64_t i = 0; i < num_atoms_; ++i) {
    for (int64_t j = i; j < num_atoms_; ++j, ++pair, bits += num_words_) {
      Vec3 nearest = crystal.difference(i, j);
      std::array<int64_t, 3> steps{};
      for (int k = 0; k < lattice.num_periodic; ++k) {
        const double step = -round_to_integer(coordinates[3 * j + k] - coordinates[3 * i + k]);
        steps[k] = static_cast<int64_t>(step);
        for (int x = 0; x < 3; ++x) nearest[x] += step * lattice.basis[k][x];
      }
      const std::array<int64_t, 3> offset = lattice.to_shift(steps);
      for (int m = 0; m < 3; ++m) {
        if (std::llabs(offset[m]) + largest[m] > std::numeric_limits<int32_t>::max()) too_far();
        offsets_[pair][m] = static_cast<int32_t>(offset[m]);
      }
      const double center[3] = {-nearest[0], -nearest[1], -nearest[2]};
      const bool in_band = scan(table_axis[0], table_axis[1], table_axis[2], num_translations, center, radii, bits);
      if (in_band) {
        for (int64_t word = 0; word < num_words_; ++word) {
          for (uint64_t left = bits[word]; left != 0; left &= left - 1) {
            const int bit = lowest_bit(left);
            Shift shift = translations_[64 * word + bit];
            for (int m = 0; m < 3; ++m) shift[m] += offsets_[pair][m];
            if (!crystal.is_bond(i, j, shift)) bits[word] &= ~(uint64_t{1} << bit);
          }
        }
      }
      if (i == j) {  // in half lists only the later half of the table, where shifts are positive
        const int64_t middle = num_translations / 2;
        if (half_) std::fill(bits, bits + middle / 64, 0);
        const uint64_t up_to_middle = (uint64_t{2} << (middle % 64)) - 1;  // all ones for bit 63: 2 << 63 is 0
        const uint64_t itself = uint64_t{1} << (middle % 64);
        bits[middle / 64] &= half_ ? ~up_to_middle : ~itself;
        if (crystal.self_pairs) bits[middle / 64] |= itself;
      }
    }
  }
}

void ImageSearch::count(int64_t* counts) const {
  std::fill(counts, counts + num_atoms_, 0);
  const uint64_t* bits = bits_.data();
  for (int64_t i = 0; i < num_atoms_; ++i) {
    for (int64_t j = i; j < num_atoms_; ++j) {
      int64_t bonds = 0;
      for (int64_t word = 0; word < num_words_; ++word) bonds += count_bits(*bits++);
      counts[i] += bonds;
      if (j != i && !half_) counts[j] += bonds;
    }
  }
}

void ImageSearch::write(const NeighborListOutput& output, int64_t start) const {
  int64_t* center = output.centers + start;
  int64_t* neighbor = output.neighbors + start;
  int32_t* out = output.shifts + 3 * start;
  const int64_t num_translations = static_cast<int64_t>(translations_.size());
  for (int64_t i = 0; i < num_atoms_; ++i) {
    int64_t* const row_begin = neighbor;
    for (int64_t j = half_ ? i : 0; j < num_atoms_; ++j) {
      const int64_t atom = first_atom_ + j;
      if (j < i) {
        const int64_t pair = pair_index(j, i);
        const uint64_t* bits = bits_.data() + pair * num_words_;
        const Shift offset = offsets_[pair];
        // The pair read backwards: entry n-1-k of the table is the opposite of entry k.
        for (int64_t word = num_words_ - 1; word >= 0; --word) {
          for (uint64_t left = bits[word]; left != 0;) {
            const int bit = highest_bit(left);
            left ^= uint64_t{1} << bit;
            const Shift& s = translations_[num_translations - 1 - (64 * word + bit)];
            *neighbor++ = atom;
            for (int m = 0; m < 3; ++m) out[m] = s[m] - offset[m];
            out += 3;
          }
        }
      } else {
        const int64_t pair = pair_index(i, j);
        const uint64_t* bits = bits_.data() + pair * num_words_;
        const Shift offset = offsets_[pair];
        for (int64_t word = 0; word < num_words_; ++word) {
          for (uint64_t left = bits[word]; left != 0; left &= left - 1) {
            const Shift& s = translations_[64 * word + lowest_bit(left)];
            *neighbor++ = atom;
            for (int m = 0; m < 3; ++m) out[m] = s[m] + offset[m];
            out += 3;
          }
        }
      }
    }
    const int64_t bonds = neighbor - row_begin;
    std::fill(center, center + bonds, first_atom_ + i);
    center += bonds;
  }
}

}  // namespace dtnn
