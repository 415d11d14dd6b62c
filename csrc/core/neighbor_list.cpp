// SPDX-License-Identifier: MIT
#include "neighbor_list.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

#include "neighbor_grid.h"
#include "neighbor_images.h"

namespace dtnn {
namespace {

// Crystals are searched in groups of about this much work, in candidate distances (some 20 microseconds), and the bonds
// of large crystals written in tasks of this many atoms: small enough to balance, large enough to hide the cost of
// handing out a task.
constexpr double kGroupWork = 50000;
constexpr int64_t kAtomsPerWriteTask = 256;
// From this size on, all threads build the grid of one crystal together.
constexpr int64_t kLargeCrystal = 4096;
// Rounding errors stay below this times the lengths involved: several hundred units in the last place.
constexpr double kRelativeTolerance = 1e-13;
// Steps along the reduced basis; smaller than what int32 holds, for the cutoff to have room.
constexpr double kMostCellsApart = 1e9;
constexpr double kBytesPerBond = 28 + 8;  // two int64 and three int32, and a key while searching

double ask_memory_bytes() {
#if defined(_SC_PHYS_PAGES)
  const long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page_size > 0) return static_cast<double>(pages) * static_cast<double>(page_size);
#endif
  return 1e13;
}

double memory_bytes() {
  static const double bytes = ask_memory_bytes();
  return bytes;
}

std::string crystal_prefix(const NeighborListInput& input, int64_t index) {
  return input.num_crystals == 1 ? "" : "crystal " + std::to_string(index) + ": ";
}

void check_memory(double bonds) {
  if (bonds * kBytesPerBond <= memory_bytes()) return;
  char number[32];
  std::snprintf(number, sizeof number, "%.1e", bonds);
  throw std::length_error("a list of at least " + std::string(number) +
                          " bonds does not fit into memory: is the `cutoff` too large or the `cell` too small?");
}

// A lower estimate of the number of bonds: each atom with its own images, in three dimensions with all atoms' images.
// The tolerance counts too: far-out atoms whose rounding errors reach other cells would make the search as long as the
// list.
void check_size(const SearchCrystal& crystal) {
  const double atoms = static_cast<double>(crystal.num_atoms);
  const double images = count_translations(crystal.lattice, crystal.cutoff + 2 * crystal.tolerance) - 1;
  const double bonds =
      (crystal.half ? 0.5 : 1.0) * images * (crystal.lattice.num_periodic == 3 ? atoms * atoms : atoms) +
      (crystal.self_pairs ? atoms : 0);
  check_memory(bonds);
}

// The crystals [begin, end) of the batch; large ones among them are searched afterwards, in tasks of some atoms.
struct Group {
  int64_t begin, end;
  std::vector<std::unique_ptr<ImageSearch>> images;  // one for each crystal; null for large and empty ones
  std::vector<int64_t> starts;                       // first atoms of the crystals
};

}  // namespace

SearchCrystal make_search_crystal(const NeighborListInput& input, int64_t index) {
  SearchCrystal crystal;
  crystal.first_atom = input.ptr[index];
  crystal.num_atoms = input.ptr[index + 1] - crystal.first_atom;
  crystal.positions = input.positions + 3 * crystal.first_atom;
  crystal.cutoff = input.cutoffs[input.shared_cutoff ? 0 : index];
  crystal.half = input.half;
  crystal.self_pairs = input.self_pairs;
  if (!(crystal.cutoff >= 0) || !std::isfinite(crystal.cutoff))
    throw std::invalid_argument((input.shared_cutoff ? "" : crystal_prefix(input, index)) +
                                "expected a finite `cutoff` of 0 or more, got " + std::to_string(crystal.cutoff));
  const double* cell = input.cells + (input.shared_cell ? 0 : 9 * index);
  for (int k = 0; k < 9; ++k)
    if (!std::isfinite(cell[k]))
      throw std::invalid_argument(crystal_prefix(input, index) + "expected a finite `cell`, got NaN or infinity");
  for (int64_t k = 0; k < 3 * crystal.num_atoms; ++k)
    if (!std::isfinite(crystal.positions[k]))
      throw std::invalid_argument("expected finite `positions`, got NaN or infinity at atom " +
                                  std::to_string(crystal.first_atom + k / 3));
  try {
    crystal.lattice = make_lattice(cell, input.pbc + (input.shared_pbc ? 0 : 3 * index));
    crystal.lowest = crystal.highest = {0, 0, 0};
    double length = 0;
    for (int64_t i = 0; i < crystal.num_atoms; ++i) {
      const Vec3 r = crystal.difference(0, i);
      length = std::max(length, std::abs(r[0]) + std::abs(r[1]) + std::abs(r[2]));
      for (int k = 0; k < 3; ++k) {
        const double coordinate = dot(crystal.lattice.dual[k], r);
        crystal.lowest[k] = std::min(crystal.lowest[k], coordinate);
        crystal.highest[k] = std::max(crystal.highest[k], coordinate);
      }
    }
    length += crystal.cutoff;
    for (int k = 0; k < crystal.lattice.num_periodic; ++k) {
      if (!(crystal.highest[k] - crystal.lowest[k] < kMostCellsApart))
        throw std::invalid_argument("`positions`: atoms too many cells apart for shifts of 32 bits");
      length += crystal.lattice.rounding_length[k] *
                (2 + crystal.highest[k] - crystal.lowest[k] + crystal.cutoff / crystal.lattice.height[k]);
    }
    crystal.tolerance = kRelativeTolerance * length;
    if (!std::isfinite(length)) throw std::invalid_argument("`positions` or `cutoff` too large for float64 arithmetic");
    check_size(crystal);
  } catch (const std::length_error& error) {
    throw std::length_error(crystal_prefix(input, index) + error.what());
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(crystal_prefix(input, index) + error.what());
  }
  return crystal;
}

struct NeighborSearch::State {
  // Some atoms of one large crystal.
  struct WriteTask {
    const GridSearch* grid;
    int64_t begin, end;
  };

  std::vector<int64_t> row_ptr;
  std::vector<Group> groups;
  std::vector<std::unique_ptr<GridSearch>> grids;  // one for each crystal; null for small ones
  std::vector<WriteTask> write_tasks;
  KeyArena arena;
};

NeighborSearch::NeighborSearch(const NeighborListInput& input, const Parallel& parallel) : state_(new State) {
  State& state = *state_;
  state.row_ptr.assign(input.num_atoms + 1, 0);
  int64_t* const counts = state.row_ptr.data() + 1;
  state.grids.resize(input.num_crystals);
  std::vector<std::unique_ptr<SearchCrystal>> large(input.num_crystals);

  // Groups of crystals with similar work; what an atom costs is not known before its cell is looked at.
  double work = kGroupWork;
  for (int64_t index = 0; index < input.num_crystals; ++index) {
    if (work >= kGroupWork) {
      state.groups.push_back({index, index, {}, {}});
      work = 0;
    }
    state.groups.back().end = index + 1;
    const double atoms = static_cast<double>(input.ptr[index + 1] - input.ptr[index]);
    work += 1000 + 60 * std::min(atoms * atoms, 200 * atoms);
  }
  for_each_task(parallel, static_cast<int64_t>(state.groups.size()), [&](int64_t g) {
    Group& group = state.groups[g];
    for (int64_t index = group.begin; index < group.end; ++index) {
      const SearchCrystal crystal = make_search_crystal(input, index);
      group.images.emplace_back();
      group.starts.push_back(crystal.first_atom);
      if (crystal.num_atoms == 0) continue;
      if (ImageSearch::estimate(crystal) <= GridSearch::estimate(crystal)) {
        group.images.back().reset(new ImageSearch(crystal));
        group.images.back()->count(counts + crystal.first_atom);
      } else if (crystal.num_atoms < kLargeCrystal) {
        state.grids[index].reset(new GridSearch(crystal, serial()));
      } else {
        large[index].reset(new SearchCrystal(crystal));
      }
    }
  });

  struct SearchTask {
    GridSearch* grid;
    int64_t number;
  };
  std::vector<SearchTask> tasks;
  for (int64_t index = 0; index < input.num_crystals; ++index) {
    if (large[index]) state.grids[index].reset(new GridSearch(*large[index], parallel));
    GridSearch* const grid = state.grids[index].get();
    if (grid == nullptr) continue;
    for (int64_t number = 0; number < grid->num_tasks(); ++number) tasks.push_back({grid, number});
    for (int64_t begin = 0; begin < grid->num_atoms(); begin += kAtomsPerWriteTask)
      state.write_tasks.push_back({grid, begin, std::min(begin + kAtomsPerWriteTask, grid->num_atoms())});
  }
  // Without three periodic directions there is no good estimate beforehand, so the bonds are counted as they are found.
  std::atomic<int64_t> found{0};
  for_each_task(parallel, static_cast<int64_t>(tasks.size()), [&](int64_t t) {
    GridSearch& grid = *tasks[t].grid;
    check_memory(static_cast<double>(found += grid.search(tasks[t].number, state.arena, counts + grid.first_atom())));
  });
  std::partial_sum(state.row_ptr.begin(), state.row_ptr.end(), state.row_ptr.begin());
}

NeighborSearch::~NeighborSearch() = default;

int64_t NeighborSearch::num_bonds() const { return state_->row_ptr.back(); }

void NeighborSearch::write_bonds(const NeighborListOutput& output, const Parallel& parallel) const {
  const State& state = *state_;
  std::copy(state.row_ptr.begin(), state.row_ptr.end(), output.row_ptr);
  const int64_t num_groups = static_cast<int64_t>(state.groups.size());
  const int64_t num_write_tasks = static_cast<int64_t>(state.write_tasks.size());
  for_each_task(parallel, num_groups + num_write_tasks, [&](int64_t task) {
    if (task < num_groups) {
      const Group& group = state.groups[task];
      for (size_t k = 0; k < group.images.size(); ++k)
        if (group.images[k]) group.images[k]->write(output, state.row_ptr[group.starts[k]]);
    } else {
      const State::WriteTask& write_task = state.write_tasks[task - num_groups];
      const int64_t first = write_task.grid->first_atom() + write_task.begin;
      write_task.grid->write(write_task.begin, write_task.end, state.row_ptr.data() + first, output);
    }
  });
}

}  // namespace dtnn
