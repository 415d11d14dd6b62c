// SPDX-License-Identifier: MIT
#include <atomic>

#include "ops/bond_reverses.h"
#include "ops/cpu/list_kernels.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {
namespace {

constexpr const char* kOp = "bond_reverses";

// The list with its order: bond e is (neighbor, shift) within its center's row.
struct View {
  const int64_t* row_ptr;
  const int64_t* centers;
  const int64_t* neighbors;
  const int32_t* shifts;
  int64_t num_atoms;

  // In 64 bits, where negating a shift cannot overflow.
  int64_t shift(int64_t e, int k) const { return shifts[3 * e + k]; }
  bool is_before(int64_t e, int64_t f) const {
    if (neighbors[e] != neighbors[f]) return neighbors[e] < neighbors[f];
    for (int k = 0; k < 2; ++k)
      if (shift(e, k) != shift(f, k)) return shift(e, k) < shift(f, k);
    return shift(e, 2) < shift(f, 2);
  }
  bool is_reverse(int64_t e, int64_t f) const {
    return centers[e] == neighbors[f] && shift(e, 0) == -shift(f, 0) && shift(e, 1) == -shift(f, 1) &&
           shift(e, 2) == -shift(f, 2);
  }
};

// Describes what is wrong with a bond, or returns null. Its reverse is not looked at.
const char* find_fault(const View& list, int64_t i, int64_t e) {
  if (list.centers[e] != i) return "`pairs` sorted by center as `row_ptr` says, got another center";
  if (list.neighbors[e] < 0 || list.neighbors[e] >= list.num_atoms) return "`pairs` with atoms in `row_ptr`";
  if (e > list.row_ptr[i] && !list.is_before(e - 1, e))
    return "bonds sorted by center, neighbor and shift, without repeats";
  return nullptr;
}

bool has_reverse(const View& list, int64_t e) {
  const int64_t j = list.neighbors[e];
  for (int64_t f = list.row_ptr[j]; f < list.row_ptr[j + 1]; ++f)
    if (list.is_reverse(e, f)) return true;
  return false;
}

// Raises an error that names the first bad bond.
void report(const View& list) {
  const auto raise_if = [&](const char* fault, int64_t e) {
    DTNN_CHECK(fault == nullptr, kOp, ": expected ", fault, ": bond ", e, " from atom ", list.centers[e], " to ",
               list.neighbors[e], " with shift [", list.shift(e, 0), ", ", list.shift(e, 1), ", ", list.shift(e, 2),
               "]");
  };
  for (int64_t i = 0; i < list.num_atoms; ++i)
    for (int64_t e = list.row_ptr[i]; e < list.row_ptr[i + 1]; ++e) raise_if(find_fault(list, i, e), e);
  for (int64_t e = 0; e < list.row_ptr[list.num_atoms]; ++e)
    if (!has_reverse(list, e)) raise_if("a full list, with every bond from both ends, got one without a reverse", e);
}

// Pairs the bonds of the centers [begin, end) that go to the same or a later atom with their reverses. The bonds of one
// pair (i, j), in the order of their shifts, are the reverses of those of (j, i) in opposite order; and the pairs (j,
// i) of one row j come in the order of i. So a cursor in each row, found by search when it is first needed, leads
// through without searching. Returns the number of bonds paired, or -1 when something is wrong.
int64_t pair_bonds(const View& list, int64_t begin, int64_t end, int64_t* reverses) {
  constexpr int64_t kUnknown = -1;
  std::vector<int64_t> cursors(list.num_atoms, kUnknown);
  int64_t num_paired = 0;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row_end = list.row_ptr[i + 1];
    for (int64_t e = list.row_ptr[i]; e < row_end; ++e)
      if (find_fault(list, i, e) != nullptr) return -1;
    const int64_t* const row_begin = list.neighbors + list.row_ptr[i];
    for (int64_t first = std::lower_bound(row_begin, list.neighbors + row_end, i) - list.neighbors; first < row_end;) {
      const int64_t j = list.neighbors[first];
      int64_t last = first + 1;
      while (last < row_end && list.neighbors[last] == j) ++last;
      int64_t& cursor = cursors[j];
      const int64_t *row = list.neighbors + list.row_ptr[j], *past = list.neighbors + list.row_ptr[j + 1];
      if (cursor == kUnknown) cursor = std::lower_bound(row, past, i) - list.neighbors;
      if (cursor + (last - first) > list.row_ptr[j + 1]) return -1;
      for (int64_t e = first; e < last; ++e) {
        const int64_t reverse = cursor + (last - 1 - e);
        if (!list.is_reverse(e, reverse)) return -1;
        reverses[e] = reverse;
        reverses[reverse] = e;
      }
      cursor += last - first;
      num_paired += i == j ? last - first : 2 * (last - first);
      first = last;
    }
  }
  return num_paired;
}

}  // namespace

Tensor bond_reverses_cpu(const SortedBonds& bonds) {
  check_row_ptr_values(kOp, bonds);
  const int64_t num_bonds = bonds.num_bonds();
  Tensor reverses = torch::stable::empty({num_bonds}, ScalarType::Long, std::nullopt, bonds.pairs.device());
  advise_large_pages(reverses);
  const int64_t* pairs = bonds.pairs.const_data_ptr<int64_t>();
  const View list{bonds.row_ptr.const_data_ptr<int64_t>(), pairs, pairs + num_bonds,
                  bonds.shifts.const_data_ptr<int32_t>(), bonds.num_atoms()};
  const Parallel parallel = torch_threads();
  // Few, large tasks: each needs its own cursors.
  const int64_t bonds_per_task = std::max<int64_t>(1 << 16, num_bonds / (2 * parallel.num_threads) + 1);
  const std::vector<int64_t> task_atom = rows_of_tasks(list.row_ptr, list.num_atoms, bonds_per_task);
  // No bond of a sorted list is paired twice, so as many as there are means that every bond has its reverse.
  std::atomic<int64_t> num_paired{0};
  std::atomic<bool> is_sound{true};
  for_each_task(parallel, static_cast<int64_t>(task_atom.size()) - 1, [&](int64_t task) {
    const int64_t paired = pair_bonds(list, task_atom[task], task_atom[task + 1], reverses.mutable_data_ptr<int64_t>());
    if (paired < 0) is_sound = false;
    num_paired += paired;
  });
  if (!is_sound || num_paired != num_bonds) report(list);
  return reverses;
}

}  // namespace dtnn
