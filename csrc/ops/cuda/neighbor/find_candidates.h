// SPDX-License-Identifier: MIT
// The candidates for the bonds of one atom, found by a warp: all atoms of the crystal and the images that can be near,
// or the atoms of the bins around. Both test the contract's criterion on each candidate, so nothing depends on how
// candidates were found.
#pragma once

#include "device_crystal.h"
#include "warp.h"

namespace dtnn::cuda {

// Shared memory of one warp: what each of 32 segments of candidates needs.
struct WarpSegments {
  uint64_t start[kWarp];
  int32_t steps[3][kWarp];  // direct: the lowest steps; grid: those of the image
  uint32_t size[2][kWarp];  // direct: numbers of steps along directions 1 and 2
  int32_t first[kWarp];     // grid: the first point
  double dual[3][3];        // one image: the crystal's, 0 along directions that are not periodic
};

// The searches call found(keep, j, shift) for every candidate, by all lanes together; `j` counts in the crystal, and
// `shift` has integers or whole doubles.

// For crystals with `one_image`: the image of j to test is the nearest along each direction of the basis, so a lane
// takes an atom, and candidates come in the order of the list. The search below would lay out ranges of one step or
// none.
template <typename Found>
__device__ __forceinline__ void search_one_image(const NeighborListArgs& args, const NeighborCrystal& crystal,
                                                 int64_t atom, WarpSegments& segments, Found&& found) {
  const double* const positions = args.positions + 3 * crystal.first_atom;
  const int32_t i = static_cast<int32_t>(atom - crystal.first_atom);
  const int32_t num_atoms = static_cast<int32_t>(crystal.num_atoms);
  const BondTest test(crystal.cell, crystal.cutoff, positions + 3 * int64_t{i});
  // Copies: the compiler cannot know that the bonds written meanwhile are not the crystal. In shared memory, since
  // registers are short.
  const bool keeps_cell = crystal.keeps_cell;
  const int lane = lane_index();
  __syncwarp();  // no lane reads those of the atom before any more
  if (lane < 9) segments.dual[lane / 3][lane % 3] = crystal.periodic[lane / 3] ? crystal.dual[lane / 3][lane % 3] : 0;
  __syncwarp();
#pragma unroll 1
  for (int32_t tile = args.half ? i : 0; tile < num_atoms; tile += kWarp) {  // a half list has no neighbor before i
    const int32_t j = tile + lane;
    const bool active = j < num_atoms;
    const double* const neighbor = positions + 3 * int64_t{active ? j : i};
    double position[3], between[3], shift[3];
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      position[x] = neighbor[x];
      between[x] = position[x] - test.center[x];
    }
#pragma unroll
    for (int k = 0; k < 3; ++k) shift[k] = rint(-dot(segments.dual[k], between));
    if (!keeps_cell) {
      const Steps steps = {static_cast<int64_t>(shift[0]), static_cast<int64_t>(shift[1]),
                           static_cast<int64_t>(shift[2])};
      Steps combined;
      to_shift(crystal, steps, combined);
#pragma unroll
      for (int m = 0; m < 3; ++m) shift[m] = static_cast<double>(combined[m]);
    }
    found(active && (j == i ? args.self_pairs : test.is_near(position, shift)), j, shift);
  }
}

// For any crystal without a grid. In the order of the list where the crystal keeps its cell.
template <typename Found>
__device__ __forceinline__ void search_direct(const NeighborListArgs& args, const NeighborCrystal& crystal,
                                              int64_t atom, WarpSegments& segments, Found&& found) {
  const int lane = lane_index();
  const double* const positions = args.positions + 3 * crystal.first_atom;
  const int64_t i = atom - crystal.first_atom;
  const BondTest test(crystal.cell, crystal.cutoff, positions + 3 * i);
  const int64_t first_neighbor = args.half ? i : 0;  // a half list has none before

  const auto prepare = [&](int64_t q) {
    const double* const neighbor = positions + 3 * (first_neighbor + q);
    double between[3];
#pragma unroll
    for (int x = 0; x < 3; ++x) between[x] = neighbor[x] - test.center[x];
    uint64_t images = 1;
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      double low = 0, high = 0;
      if (crystal.periodic[k]) {
        const double coordinate = dot(crystal.dual[k], between);
        low = ceil(-coordinate - crystal.reach[k]);
        high = floor(-coordinate + crystal.reach[k]);
      }
      const uint32_t size = high < low ? 0 : static_cast<uint32_t>(high - low) + 1;
      segments.steps[k][lane] = static_cast<int32_t>(low);
      if (k > 0) segments.size[k - 1][lane] = size;
      images *= size;
    }
    return images;
  };
  walk_segments(crystal.num_atoms - first_neighbor, segments.start, prepare,
                [&](bool active, int64_t q, uint64_t item) {
                  const int slot = static_cast<int>(q % kWarp);
                  const int64_t j = first_neighbor + q;
                  Steps shift = {0, 0, 0};
                  bool keep = false;
                  if (active) {
                    const uint32_t size_1 = segments.size[0][slot], size_2 = segments.size[1][slot];
                    Steps steps;
                    if (item >> 32 == 0) {  // the division of 64-bit numbers takes several times as long
                      const uint32_t rest = static_cast<uint32_t>(item) / size_2;
                      steps[2] = static_cast<uint32_t>(item) - rest * size_2;
                      steps[0] = rest / size_1;
                      steps[1] = rest - static_cast<uint32_t>(steps[0]) * size_1;
                    } else {
                      const uint64_t rest = item / size_2;
                      steps[2] = static_cast<int64_t>(item - rest * size_2);
                      steps[0] = static_cast<int64_t>(rest / size_1);
                      steps[1] = static_cast<int64_t>(rest) - steps[0] * size_1;
                    }
#pragma unroll
                    for (int k = 0; k < 3; ++k) steps[k] += segments.steps[k][slot];
                    to_shift(crystal, steps, shift);
                    keep = is_bond(args, test, i, j, positions + 3 * j, shift);
                  }
                  found(keep, j, shift);
                });
}

// Of a >= 0 and b > 0. The division of 64-bit numbers takes several times as long, and is seldom needed.
__device__ __forceinline__ int64_t divide(int64_t a, int64_t b) {
  if ((a | b) >> 32 == 0) return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
  return a / b;
}

__device__ __forceinline__ int64_t floor_divide(int64_t a, int64_t b) {  // b > 0
  return a >= 0 ? divide(a, b) : -1 - divide(-1 - a, b);
}

// The same for an atom of a crystal with a grid, in no useful order. A segment is a run of bins along direction 2 in
// one image of the cell, whose points lie one after another.
template <typename Found>
__device__ __forceinline__ void search_grid(const NeighborListArgs& args, const NeighborBuffers& buffers,
                                            const NeighborCrystal& crystal, int64_t atom, WarpSegments& segments,
                                            Found&& found) {
  const int lane = lane_index();
  const int64_t i = atom - crystal.first_atom;
  const BondTest test(crystal.cell, crystal.cutoff, args.positions + 3 * atom);
  const int4 home = reinterpret_cast<const int4*>(buffers.home)[atom];
  const int64_t* const bin_start = buffers.bin_start + crystal.first_atom;

  int64_t low[3], high[3];  // bins around; those of periodic directions go on into the images
  {
    const int32_t rest = home.w / crystal.num_bins[2];
    const int32_t bin[3] = {rest / crystal.num_bins[1], rest % crystal.num_bins[1], home.w % crystal.num_bins[2]};
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      low[k] = int64_t{bin[k]} - crystal.bin_reach[k];
      high[k] = int64_t{bin[k]} + crystal.bin_reach[k];
      if (!crystal.periodic[k]) {
        low[k] = low[k] < 0 ? 0 : low[k];
        high[k] = high[k] < crystal.num_bins[k] ? high[k] : crystal.num_bins[k] - 1;
      }
    }
  }
  const int64_t rows_1 = high[1] - low[1] + 1;
  const int64_t first_image = floor_divide(low[2], crystal.num_bins[2]);
  const int64_t images = floor_divide(high[2], crystal.num_bins[2]) - first_image + 1;

  const auto prepare = [&](int64_t q) {
    int64_t row = divide(q, images);
    const int64_t image_2 = first_image + (q - row * images);
    const int64_t row_0 = divide(row, rows_1);
    const int64_t bin_0 = low[0] + row_0, bin_1 = low[1] + (row - row_0 * rows_1);
    const int64_t image_0 = floor_divide(bin_0, crystal.num_bins[0]),
                  image_1 = floor_divide(bin_1, crystal.num_bins[1]);
    row = (bin_0 - image_0 * crystal.num_bins[0]) * crystal.num_bins[1] + (bin_1 - image_1 * crystal.num_bins[1]);
    row *= crystal.num_bins[2];
    const int64_t cell_begin = image_2 * crystal.num_bins[2], cell_end = cell_begin + crystal.num_bins[2] - 1;
    const int64_t first_bin = (low[2] > cell_begin ? low[2] : cell_begin) - cell_begin;
    const int64_t last_bin = (high[2] < cell_end ? high[2] : cell_end) - cell_begin;
    const int64_t first = bin_start[row + first_bin];
    segments.first[lane] = static_cast<int32_t>(first);
    segments.steps[0][lane] = static_cast<int32_t>(image_0);
    segments.steps[1][lane] = static_cast<int32_t>(image_1);
    segments.steps[2][lane] = static_cast<int32_t>(image_2);
    return static_cast<uint64_t>(bin_start[row + last_bin + 1] - first);
  };
  const int64_t num_segments = (high[0] - low[0] + 1) * rows_1 * images;
  walk_segments(num_segments, segments.start, prepare, [&](bool active, int64_t q, uint64_t item) {
    const int slot = static_cast<int>(q % kWarp);
    Steps shift = {0, 0, 0};
    int64_t j = 0;
    bool keep = false;
    if (active) {
      const int64_t point = segments.first[slot] + static_cast<int64_t>(item);
      const int4 its_home = reinterpret_cast<const int4*>(buffers.point_home)[point];  // one load of 16 bytes
      j = its_home.w - crystal.first_atom;
      const Steps steps = {int64_t{segments.steps[0][slot]} + its_home.x - home.x,
                           int64_t{segments.steps[1][slot]} + its_home.y - home.y,
                           int64_t{segments.steps[2][slot]} + its_home.z - home.z};
      to_shift(crystal, steps, shift);
      keep = is_bond(args, test, i, j, buffers.point_position + 3 * point, shift);
    }
    found(keep, j, shift);
  });
}

}  // namespace dtnn::cuda
