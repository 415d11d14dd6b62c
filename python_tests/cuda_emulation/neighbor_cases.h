// SPDX-License-Identifier: MIT
// neighbor_list on the host: its buffers, each allocated by itself and exactly as large as the launchers ask for, and
// small crystals with a plain search to compare with.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "cases.h"
#include "neighbor_list.h"

namespace dtnn::cases {

// The arrays of a batch, and one run of the launchers over it.
class EmulatedNeighborList {
 public:
  explicit EmulatedNeighborList(const cuda::NeighborListArgs& args, bool with_large)
      : args_(args), with_large_(with_large), status_(cuda::kNumStatusWords, -1) {
    buffers_.status = status_.data();
    buffers_.lay_out(args.num_atoms, args.num_crystals, with_large, [&](auto*& array, int64_t count, int64_t bytes) {
      memory_.emplace_back(new unsigned char[count * bytes]);  // aligned to 16 by operator new
      std::fill_n(memory_.back().get(), count * bytes, static_cast<unsigned char>(0xa5));
      array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(memory_.back().get());
    });
  }

  const char* count(int64_t* row_ptr) {
    return cuda::launch_neighbor_list_count(args_, buffers_, row_ptr, with_large_, nullptr);
  }
  const char* fill(const cuda::NeighborOutput& output) {
    return cuda::launch_neighbor_list_fill(args_, buffers_, output, with_large_, nullptr);
  }
  const char* pad(const cuda::NeighborOutput& output, int64_t* num_bonds, int64_t* status) {
    return cuda::launch_neighbor_list_pad(args_, buffers_, output, {num_bonds, status}, nullptr);
  }
  const std::vector<int64_t>& status() const { return status_; }
  const cuda::NeighborCrystal* crystals() const { return buffers_.crystals; }
  int64_t num_crystals() const { return args_.num_crystals; }
  cuda::NeighborFault fault() const { return cuda::fault_of(status_[cuda::kFaultWord]); }

 private:
  cuda::NeighborListArgs args_;
  bool with_large_;
  std::vector<int64_t> status_;
  std::vector<std::unique_ptr<unsigned char[]>> memory_;
  cuda::NeighborBuffers buffers_;
};

// A batch of crystals with right angles, so that a plain loop finds the same bonds.
struct BoxBatch {
  std::vector<double> positions, cells;
  std::unique_ptr<bool[]> pbc;
  std::vector<int64_t> ptr{0};
  int64_t num_crystals = 0;

  // `sizes` atoms in boxes with these edges; the atoms leave them a little.
  BoxBatch(const std::vector<int>& sizes, const std::array<double, 3>& edges, unsigned seed)
      : pbc(new bool[3 * sizes.size()]), num_crystals(static_cast<int64_t>(sizes.size())) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(-0.5, 1.5);
    for (size_t b = 0; b < sizes.size(); ++b) {
      for (int k = 0; k < 9; ++k) cells.push_back(k % 4 == 0 ? edges[k / 4] : 0);
      for (int k = 0; k < 3; ++k) pbc[3 * b + k] = (b + k) % 4 != 3;
      for (int atom = 0; atom < sizes[b]; ++atom)
        for (int k = 0; k < 3; ++k) positions.push_back(uniform(random) * edges[k]);
      ptr.push_back(ptr.back() + sizes[b]);
    }
    positions.shrink_to_fit();
    cells.shrink_to_fit();
    ptr.shrink_to_fit();
  }

  cuda::NeighborListArgs args(double cutoff, bool half) const {
    return {positions.data(), cells.data(), pbc.get(), ptr.data(), nullptr, cutoff,
            ptr.back(),       num_crystals, false,     false,      half,    true};
  }

  // Bonds (i, j, shift) in the order of the list, self pairs included.
  std::vector<std::array<int64_t, 5>> bonds(double cutoff, bool half) const {
    std::vector<std::array<int64_t, 5>> found;
    for (int64_t b = 0; b < num_crystals; ++b) {
      int64_t most[3];
      for (int k = 0; k < 3; ++k)
        most[k] = pbc[3 * b + k] ? static_cast<int64_t>(cutoff / cells[9 * b + 4 * k]) + 3 : 0;
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i)
        for (int64_t j = half ? i : ptr[b]; j < ptr[b + 1]; ++j)
          for (int64_t s0 = -most[0]; s0 <= most[0]; ++s0)
            for (int64_t s1 = -most[1]; s1 <= most[1]; ++s1)
              for (int64_t s2 = -most[2]; s2 <= most[2]; ++s2) {
                const int64_t shift[3] = {s0, s1, s2}, first = s0 != 0 ? s0 : s1 != 0 ? s1 : s2;
                double squared = 0;
                for (int k = 0; k < 3; ++k) {
                  const double d = positions[3 * j + k] - positions[3 * i + k] +
                                   static_cast<double>(shift[k]) * cells[9 * b + 4 * k];
                  squared += d * d;
                }
                const bool counts = i != j || first > 0 || (first < 0 && !half);
                if ((i == j && first == 0) || (counts && squared < cutoff * cutoff))
                  found.push_back({i, j, s0, s1, s2});
              }
    }
    return found;
  }
};

// Runs count, fill and pad, and compares with the plain search; returns what is wrong.
inline std::string check_box_batch(const BoxBatch& batch, double cutoff, bool half, bool with_large, int64_t spare) {
  const cuda::NeighborListArgs args = batch.args(cutoff, half);
  const std::vector<std::array<int64_t, 5>> expected = batch.bonds(cutoff, half);
  const int64_t num_bonds = static_cast<int64_t>(expected.size()), capacity = num_bonds + spare;
  EmulatedNeighborList list(args, with_large);
  std::vector<int64_t> row_ptr(args.num_atoms + 1, -7), pairs(2 * capacity, -7);
  std::vector<int32_t> shifts(3 * capacity, -7);
  const cuda::NeighborOutput output{pairs.data(), pairs.data() + capacity, shifts.data(), row_ptr.data(), capacity};
  for (const char* error : {list.count(row_ptr.data()), list.fill(output)})
    if (error != nullptr) return error;
  if (list.fault() != cuda::NeighborFault::kNone) return "a fault was reported";
  if (list.status()[cuda::kNumBonds] != num_bonds) return "wrong number of bonds";
  for (int64_t bond = 0; bond < num_bonds; ++bond) {
    const std::array<int64_t, 5> ours{pairs[bond], pairs[capacity + bond], shifts[3 * bond], shifts[3 * bond + 1],
                                      shifts[3 * bond + 2]};
    if (ours != expected[bond]) return "wrong bond " + std::to_string(bond);
    if (bond < row_ptr[ours[0]] || bond >= row_ptr[ours[0] + 1]) return "wrong row_ptr";
  }
  int64_t padded_bonds = -1, padded_status = -1;
  if (const char* error = list.pad(output, &padded_bonds, &padded_status)) return error;
  if (padded_bonds != num_bonds || padded_status != cuda::kComplete) return "wrong state of the padded list";
  for (int64_t bond = num_bonds; bond < capacity; ++bond)
    if (pairs[bond] != args.num_atoms - 1 || shifts[3 * bond + 2] != 0) return "wrong padding";
  return row_ptr[args.num_atoms] == capacity ? "" : "wrong end of row_ptr";
}

}  // namespace dtnn::cases
