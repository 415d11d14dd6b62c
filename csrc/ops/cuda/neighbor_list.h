// SPDX-License-Identifier: MIT
// The CUDA kernels of neighbor_list as plain C++ functions. The common rules of launchers.h hold; bonds, order and
// arithmetic are those of core/neighbor_list.h, to the bit.
//
// A list takes two steps, between which the caller learns how many bonds there are:
//   launch_neighbor_list_count   describes the crystals, counts the bonds of each atom, and leaves row_ptr and a status
//   launch_neighbor_list_fill    writes the bonds into the caller's arrays
// No buffer depends on values: all sizes follow from the numbers of atoms and crystals.
#pragma once

#include <cstdint>

namespace dtnn::cuda {

struct NeighborListArgs {
  const double* positions;  // [num_atoms, 3]
  const double* cells;      // [num_crystals, 3, 3], or [3, 3] where shared_cell
  const bool* pbc;          // [num_crystals, 3], or [3] where shared_pbc
  const int64_t* ptr;       // [num_crystals + 1]; null for one crystal
  const double* cutoffs;    // [num_crystals]; null where all have `cutoff`
  double cutoff;
  int64_t num_atoms;     // below 2^31
  int64_t num_crystals;  // below 2^31
  bool shared_cell;
  bool shared_pbc;
  bool half;
  bool self_pairs;
};

// Faults of the arguments. Of several crystals with a fault the first that was seen is reported: which, may depend on
// timing, since kernels stop at a fault.
enum class NeighborFault : int64_t {
  kNone = 0,
  kPtr,        // ptr[b]..ptr[b+1] falls, or leaves [0, num_atoms]
  kCrystal,    // a value that is not finite, a negative cutoff, a cell without volume, atoms too far apart
  kShift,      // a bond's shift is beyond int32
  kManyBonds,  // more than kMostNeighborBonds bonds, too many to be counted
  kNeedsGrid,  // not wrong: a crystal of kLargeCrystal atoms, without `with_large`
};
constexpr double kMostNeighborBonds = 1e11;

// The status words, on the device; the host reads them once.
enum NeighborStatus { kFaultWord, kNumBonds, kLeastBonds, kNumStatusWords };

// The fault word is 0, or the complement of (crystal << 4 | fault): a maximum finds the first crystal.
inline NeighborFault fault_of(int64_t word) { return static_cast<NeighborFault>(word == 0 ? 0 : ~word & 15); }
inline int64_t crystal_of_fault(int64_t word) { return ~word >> 4; }

struct NeighborCrystal;  // neighbor/device_crystal.h

// Temporary arrays. The caller gives each its own memory, aligned to 16 bytes, which lives until the fill is done.
struct NeighborBuffers {
  int64_t* status = nullptr;  // [kNumStatusWords]
  NeighborCrystal* crystals = nullptr;
  int32_t* crystal_of_atom = nullptr;
  int64_t* tile_sums = nullptr;
  // For large crystals only.
  int32_t* home = nullptr;           // [num_atoms, 4]: steps that take the atom home, and its bin
  int32_t* rank_in_bin = nullptr;    // [num_atoms]
  int64_t* bin_start = nullptr;      // [num_atoms + 1]
  double* point_position = nullptr;  // [num_atoms, 3], sorted by bin
  int32_t* point_home = nullptr;     // [num_atoms, 4], sorted by bin: steps, and the atom

  // Calls take(pointer, elements, bytes of an element) for each array but the status.
  template <typename Take>
  void lay_out(int64_t num_atoms, int64_t num_crystals, bool with_large, Take&& take);
};

// A batch with a crystal of this many atoms needs `with_large`: more memory and launches. Without it the fault is
// kNeedsGrid, and the caller starts again with it.
constexpr int64_t kLargeCrystal = 512;

struct NeighborOutput {
  int64_t* centers;    // [capacity]
  int64_t* neighbors;  // [capacity]
  int32_t* shifts;     // [capacity, 3]
  int64_t* row_ptr;    // [num_atoms + 1]
  int64_t capacity;    // if there are more bonds, none is written
};

// What became of a list of fixed size.
struct FixedListState {
  int64_t* num_bonds;  // [1]
  int64_t* status;     // [1], a FixedListStatus
};
enum FixedListStatus : int64_t { kComplete, kOverflow, kBadValues };

const char* launch_neighbor_list_count(const NeighborListArgs& args, const NeighborBuffers& buffers, int64_t* row_ptr,
                                       bool with_large, void* stream);
const char* launch_neighbor_list_fill(const NeighborListArgs& args, const NeighborBuffers& buffers,
                                      const NeighborOutput& output, bool with_large, void* stream);
// For the list of fixed size, the contract of which is in ops/neighbor_list_fixed.h: makes the places behind the last
// bond bonds of the last atom to itself, all of them where there was a fault or an overflow.
const char* launch_neighbor_list_pad(const NeighborListArgs& args, const NeighborBuffers& buffers,
                                     const NeighborOutput& output, const FixedListState& state, void* stream);

// Turns counts[1..n] into their running sums, in place, and counts[0] into 0; counts[n] also goes to `total` where that
// is not null. tile_sums: [num_prefix_tiles(n)].
const char* launch_counts_to_ptr(int64_t* counts, int64_t n, int64_t* tile_sums, int64_t* total, void* stream);
constexpr int64_t kPrefixTile = 8192;
inline int64_t num_prefix_tiles(int64_t n) { return n <= kPrefixTile ? 1 : (n + kPrefixTile - 1) / kPrefixTile; }

int64_t neighbor_crystal_bytes();

template <typename Take>
void NeighborBuffers::lay_out(int64_t num_atoms, int64_t num_crystals, bool with_large, Take&& take) {
  take(crystals, num_crystals, neighbor_crystal_bytes());
  take(crystal_of_atom, num_atoms, int64_t{sizeof(int32_t)});
  take(tile_sums, num_prefix_tiles(num_atoms), int64_t{sizeof(int64_t)});
  if (!with_large) return;
  take(home, 4 * num_atoms, int64_t{sizeof(int32_t)});
  take(rank_in_bin, num_atoms, int64_t{sizeof(int32_t)});
  take(bin_start, num_atoms + 1, int64_t{sizeof(int64_t)});
  take(point_position, 3 * num_atoms, int64_t{sizeof(double)});
  take(point_home, 4 * num_atoms, int64_t{sizeof(int32_t)});
}

}  // namespace dtnn::cuda
