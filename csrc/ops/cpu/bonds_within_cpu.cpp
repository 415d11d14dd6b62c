// SPDX-License-Identifier: MIT
#include <cmath>
#include <numeric>

#include "core/simd_level.h"
#include "ops/bonds_within.h"
#include "ops/cpu/list_kernels.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {
namespace {

constexpr const char* kOp = "bonds_within";
constexpr int64_t kBondsPerTask = 1 << 14;
constexpr int64_t kBlock = 64;

// One atom's row of the list, and what decides about its bonds.
struct Row {
  const double* positions;
  const double* cell;
  int64_t center;
  double cutoff_squared;
  const int64_t* neighbors;
  const int32_t* shifts;
  int64_t num_bonds;
};

// Sets a bit for each bond of the row that is kept, from bit `start` of `bits` on, which are 0 before. Returns their
// number. The neighbors are atoms.
DTNN_ALWAYS_INLINE int64_t mark(const Row& row, uint64_t* bits, int64_t start) {
  const double* r = row.positions;
  const double x = r[3 * row.center], y = r[3 * row.center + 1], z = r[3 * row.center + 2];
  const double a0 = row.cell[0], a1 = row.cell[1], a2 = row.cell[2], b0 = row.cell[3], b1 = row.cell[4],
               b2 = row.cell[5], c0 = row.cell[6], c1 = row.cell[7], c2 = row.cell[8];
  int64_t kept = 0;
  for (int64_t first = 0; first < row.num_bonds; first += kBlock) {
    const int64_t count = std::min(kBlock, row.num_bonds - first);
    const int64_t* neighbors = row.neighbors + first;
    const int32_t* shifts = row.shifts + 3 * first;
    double squared[kBlock];
    for (int64_t k = 0; k < count; ++k) {
      const double* neighbor = r + 3 * neighbors[k];
      const double s0 = shifts[3 * k], s1 = shifts[3 * k + 1], s2 = shifts[3 * k + 2];
      const double dx = (neighbor[0] - x) + ((s0 * a0 + s1 * b0) + s2 * c0);
      const double dy = (neighbor[1] - y) + ((s0 * a1 + s1 * b1) + s2 * c1);
      const double dz = (neighbor[2] - z) + ((s0 * a2 + s1 * b2) + s2 * c2);
      squared[k] = (dx * dx + dy * dy) + dz * dz;
    }
    for (int64_t k = 0; k < count; ++k) {
      const bool is_self =
          (neighbors[k] == row.center) & ((shifts[3 * k] | shifts[3 * k + 1] | shifts[3 * k + 2]) == 0);
      const bool keep = (squared[k] < row.cutoff_squared) | is_self;
      const int64_t bit = start + first + k;
      bits[bit / 64] |= static_cast<uint64_t>(keep) << (bit % 64);
      kept += keep;
    }
  }
  return kept;
}

DTNN_SIMD_VERSIONS(int64_t, mark_bonds, mark, (const Row& row, uint64_t* bits, int64_t start), (row, bits, start))

void check_values(const CrystalBatch& batch) {
  const double* positions = batch.positions.const_data_ptr<double>();
  for (int64_t k = 0; k < batch.positions.numel(); ++k)
    DTNN_CHECK(std::isfinite(positions[k]), kOp, ": expected finite `positions`, got NaN or infinity at atom ", k / 3);
  const double* cells = batch.cell.const_data_ptr<double>();
  for (int64_t k = 0; k < batch.cell.numel(); ++k)
    DTNN_CHECK(std::isfinite(cells[k]), kOp, ": expected a finite `cell`, got NaN or infinity in that of crystal ",
               k / 9);
  if (!batch.cutoffs) return;
  const double* cutoffs = batch.cutoffs->const_data_ptr<double>();
  for (int64_t b = 0; b < batch.num_crystals(); ++b)
    DTNN_CHECK(cutoffs[b] >= 0 && std::isfinite(cutoffs[b]), kOp, ": crystal ", b,
               ": expected a finite `cutoff` of 0 or more, got ", cutoffs[b]);
}

}  // namespace

BondsWithinTensors bonds_within_cpu(const CrystalBatch& batch, const SortedBonds& bonds) {
  const std::vector<int64_t> ptr = crystal_bounds(kOp, batch);
  check_row_ptr_values(kOp, bonds);
  check_values(batch);
  const int64_t num_atoms = batch.num_atoms();
  const int64_t* row_ptr = bonds.row_ptr.const_data_ptr<int64_t>();
  const int64_t* centers = bonds.pairs.const_data_ptr<int64_t>();
  const int64_t* neighbors = centers + bonds.num_bonds();
  const int32_t* shifts = bonds.shifts.const_data_ptr<int32_t>();
  const double* positions = batch.positions.const_data_ptr<double>();
  const double* cells = batch.cell.const_data_ptr<double>();
  const bool shared_cell = batch.cell.dim() == 2;

  const std::vector<int64_t> task_atom = rows_of_tasks(row_ptr, num_atoms, kBondsPerTask);
  const int64_t num_tasks = static_cast<int64_t>(task_atom.size()) - 1;
  std::vector<uint64_t> bits(bonds.num_bonds() / 64 + num_tasks + 1, 0);
  const auto task_bits = [&](int64_t task) { return bits.data() + row_ptr[task_atom[task]] / 64 + task; };
  const torch::stable::Device device = batch.positions.device();
  Tensor new_row_ptr = torch::stable::empty({num_atoms + 1}, ScalarType::Long, std::nullopt, device);
  int64_t* counts = new_row_ptr.mutable_data_ptr<int64_t>();
  *counts++ = 0;

  const Parallel parallel = torch_threads();
  for_each_task(parallel, num_tasks, [&](int64_t task) {
    uint64_t* const marks = task_bits(task);
    const int64_t first_bond = row_ptr[task_atom[task]];
    int64_t crystal = std::upper_bound(ptr.begin(), ptr.end(), task_atom[task]) - ptr.begin() - 1;
    for (int64_t i = task_atom[task]; i < task_atom[task + 1]; ++i) {
      while (i >= ptr[crystal + 1]) ++crystal;
      for (int64_t e = row_ptr[i]; e < row_ptr[i + 1]; ++e) {
        DTNN_CHECK(centers[e] == i, kOp, ": expected `pairs` sorted by center as `row_ptr` says, got center ",
                   centers[e], " at bond ", e, " of atom ", i);
        DTNN_CHECK(neighbors[e] >= ptr[crystal] && neighbors[e] < ptr[crystal + 1], kOp,
                   ": expected `pairs` with both ends in one crystal, got atoms ", i, " and ", neighbors[e],
                   " at bond ", e);
      }
      const double cutoff = batch.cutoffs ? batch.cutoffs->const_data_ptr<double>()[crystal] : batch.cutoff;
      counts[i] = mark_bonds({positions, cells + (shared_cell ? 0 : 9 * crystal), i, cutoff * cutoff,
                              neighbors + row_ptr[i], shifts + 3 * row_ptr[i], row_ptr[i + 1] - row_ptr[i]},
                             marks, row_ptr[i] - first_bond);
    }
  });
  std::partial_sum(counts - 1, counts + num_atoms, counts - 1);

  const int64_t num_kept = counts[num_atoms - 1];
  Tensor kept = torch::stable::empty({num_kept}, ScalarType::Long, std::nullopt, device);
  Tensor new_pairs = torch::stable::empty({2, num_kept}, ScalarType::Long, std::nullopt, device);
  Tensor new_shifts = torch::stable::empty({num_kept, 3}, ScalarType::Int, std::nullopt, device);
  for (Tensor* tensor : {&kept, &new_pairs, &new_shifts}) advise_large_pages(*tensor);
  int64_t* const out_kept = kept.mutable_data_ptr<int64_t>();
  int64_t* const out_centers = new_pairs.mutable_data_ptr<int64_t>();
  int64_t* const out_neighbors = out_centers + num_kept;
  int32_t* const out_shifts = new_shifts.mutable_data_ptr<int32_t>();
  for_each_task(parallel, num_tasks, [&](int64_t task) {
    const uint64_t* const marks = task_bits(task);
    const int64_t first_bond = row_ptr[task_atom[task]], last_bond = row_ptr[task_atom[task + 1]];
    int64_t out = counts[task_atom[task] - 1];
    for (int64_t word = 0; 64 * word < last_bond - first_bond; ++word) {
      for (uint64_t left = marks[word]; left != 0; left &= left - 1, ++out) {
        const int64_t e = first_bond + 64 * word + __builtin_ctzll(left);
        out_kept[out] = e;
        out_centers[out] = centers[e];
        out_neighbors[out] = neighbors[e];
        for (int k = 0; k < 3; ++k) out_shifts[3 * out + k] = shifts[3 * e + k];
      }
    }
  });
  return {kept, new_pairs, new_shifts, new_row_ptr};
}

}  // namespace dtnn
