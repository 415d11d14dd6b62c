// SPDX-License-Identifier: MIT
#include "neighbor_grid.h"

#include <algorithm>

#include "simd_scan.h"

namespace dtnn {
namespace {

// Atoms of one task: few enough to balance, enough to hide the cost of handing out a task.
constexpr int64_t kTaskAtoms = 256;
// Above this number of bonds an atom, n log n beats counting.
constexpr int64_t kSortByCounting = 256;
// The keys of atoms in their own order are anywhere in memory: they are fetched this many atoms before they are needed.
constexpr int64_t kAtomsAhead = 8;
constexpr int64_t kKeysPerCacheLine = 16;

}  // namespace

GridSearch::GridSearch(const SearchCrystal& crystal, const Parallel& parallel)
    : crystal_(crystal), grid_(crystal, parallel), task_bin_{0}, found_(crystal.num_atoms) {
  int64_t atoms = 0;
  for (int64_t number = 0; number < num_own_bins(); ++number) {
    const std::array<int64_t, 3> bin = own_bin(number);
    const int64_t flat = grid_.flat_bin(bin[0], bin[1], bin[2]);
    atoms += grid_.bin_start[flat + 1] - grid_.bin_start[flat];
    if (atoms < kTaskAtoms) continue;
    task_bin_.push_back(number + 1);
    atoms = 0;
  }
  if (atoms > 0) task_bin_.push_back(num_own_bins());
}

std::array<int64_t, 3> GridSearch::own_bin(int64_t number) const {
  const BinGrid::Axis* axis = grid_.axis;
  const int64_t row = number / axis[2].num_bins;
  return {axis[0].first_own + row / axis[1].num_bins, axis[1].first_own + row % axis[1].num_bins,
          axis[2].first_own + number % axis[2].num_bins};
}

int64_t GridSearch::search(int64_t task, KeyArena& arena, int64_t* counts) {
  const double inner = std::max(0.0, crystal_.cutoff - crystal_.tolerance),
               outer = crystal_.cutoff + crystal_.tolerance;
  const ScanRadii radii{inner * inner, outer * outer};
  const ScanKernels& kernels = scan_kernels();
  const ScanPoints points{grid_.x.data(), grid_.y.data(), grid_.z.data(), grid_.key.data()};
  std::vector<ScanRun> runs;
  std::vector<int32_t> candidates, sorted;
  KeyArena::Space space = arena.borrow();
  int64_t num_bonds = 0;
  for (int64_t number = task_bin_[task]; number < task_bin_[task + 1]; ++number) {
    const std::array<int64_t, 3> bin = own_bin(number);
    const int64_t flat = grid_.flat_bin(bin[0], bin[1], bin[2]);
    const int64_t begin = grid_.bin_start[flat], end = grid_.bin_start[flat + 1];
    if (begin == end) continue;
    int64_t first[3], last[3];
    for (int k = 0; k < 3; ++k) {
      first[k] = std::max<int64_t>(0, bin[k] - grid_.axis[k].reach);
      last[k] = std::min<int64_t>(grid_.axis[k].num_extended - 1, bin[k] + grid_.axis[k].reach);
    }
    runs.clear();
    int64_t num_near = 0;
    for (int64_t b0 = first[0]; b0 <= last[0]; ++b0) {
      for (int64_t b1 = first[1]; b1 <= last[1]; ++b1) {
        const int64_t run = grid_.bin_start[grid_.flat_bin(b0, b1, first[2])];
        const int64_t count = grid_.bin_start[grid_.flat_bin(b0, b1, last[2]) + 1] - run;
        if (count > 0) runs.push_back({run, count});
        num_near += count;
      }
    }
    // One more for a self pair.
    const int64_t room = num_near + 1 + kScanPadding;
    if (static_cast<int64_t>(candidates.size()) < room) candidates.resize(2 * room), sorted.resize(2 * room);
    // The points of an own bin are atoms in the reduced cell, not images.
    for (int64_t point = begin; point < end; ++point) {
      const int64_t i = grid_.atom_of(grid_.key[point]);
      const double center[3] = {grid_.x[point], grid_.y[point], grid_.z[point]};
      const ScanResult found =
          kernels.collect(points, runs.data(), static_cast<int64_t>(runs.size()), center, radii, candidates.data());
      int32_t* last_key = candidates.data() + found.num_points;
      if (found.in_band)
        last_key = std::remove_if(candidates.data(), last_key, [&](int32_t key) {
          return !crystal_.is_bond(i, grid_.atom_of(key), grid_.bond_shift(i, key));
        });
      const int64_t num_found = last_key - candidates.data();
      if (num_found <= kSortByCounting) {
        kernels.sort_keys(candidates.data(), num_found, sorted.data());
      } else {
        sorted.swap(candidates);
        std::sort(sorted.begin(), sorted.begin() + num_found);
      }
      // Half lists have the keys behind the atom's own, which is itself left out but for self pairs.
      const int32_t* const keys = sorted.data();
      const int32_t self = static_cast<int32_t>(grid_.own_key(i));
      const int64_t before = std::lower_bound(keys, keys + num_found, self) - keys;
      const int64_t after = before + (before < num_found && keys[before] == self);
      if (space.size() < num_found + 1) space = arena.grow(num_found + 1);
      int32_t* out = space.begin;
      if (!crystal_.half) out = std::copy(keys, keys + before, out);
      if (crystal_.self_pairs) *out++ = self;
      out = std::copy(keys + after, keys + num_found, out);
      found_[i] = space.begin;
      counts[i] = out - space.begin;
      num_bonds += out - space.begin;
      space.begin = out;
    }
  }
  arena.give_back(space);
  return num_bonds;
}

void GridSearch::write(int64_t begin, int64_t end, const int64_t* row_ptr, const NeighborListOutput& output) const {
  int64_t* neighbor = output.neighbors + row_ptr[0];
  int32_t* out = output.shifts + 3 * row_ptr[0];
  for (int64_t i = begin; i < end; ++i) {
    const int64_t first = row_ptr[i - begin], last = row_ptr[i - begin + 1];
    if (i + kAtomsAhead < end) {
      const int32_t* const soon = found_[i + kAtomsAhead];
      const int64_t count = row_ptr[i - begin + kAtomsAhead + 1] - row_ptr[i - begin + kAtomsAhead];
      for (int64_t k = 0; k < count; k += kKeysPerCacheLine) __builtin_prefetch(soon + k);
    }
    std::fill(output.centers + first, output.centers + last, crystal_.first_atom + i);
    const int32_t* key = found_[i];
    for (int64_t bond = first; bond < last; ++bond, ++key, out += 3) {
      *neighbor++ = crystal_.first_atom + grid_.atom_of(*key);
      const Shift shift = grid_.bond_shift(i, *key);
      for (int m = 0; m < 3; ++m) out[m] = shift[m];
    }
  }
}

}  // namespace dtnn
