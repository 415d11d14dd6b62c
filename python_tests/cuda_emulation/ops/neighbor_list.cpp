// SPDX-License-Identifier: MIT
#include <memory>

#include "neighbor/device_crystal.h"
#include "neighbor_cases.h"

namespace {

// The list between its count and its fill.
std::unique_ptr<dtnn::cases::EmulatedNeighborList> current;

}  // namespace

extern "C" {
const char* neighbor_list_count(const double* positions, const double* cells, const bool* pbc, const int64_t* ptr,
                                const double* cutoffs, const double* cutoff, int64_t num_atoms, int64_t num_crystals,
                                int64_t shared_cell, int64_t shared_pbc, int64_t half, int64_t self_pairs,
                                int64_t with_large, int64_t* status, int64_t* row_ptr) {
  const dtnn::cuda::NeighborListArgs args{positions,        cells,           pbc,       ptr,
                                          cutoffs,          *cutoff,         num_atoms, num_crystals,
                                          shared_cell != 0, shared_pbc != 0, half != 0, self_pairs != 0};
  current.reset(new dtnn::cases::EmulatedNeighborList(args, with_large != 0));
  const char* const error = current->count(row_ptr);
  const std::vector<int64_t>& words = current->status();
  status[0] = static_cast<int64_t>(current->fault());
  status[1] = dtnn::cuda::crystal_of_fault(words[dtnn::cuda::kFaultWord]);
  status[2] = words[dtnn::cuda::kNumBonds];
  return error;
}

const char* neighbor_list_fill(int64_t* centers, int64_t* neighbors, int32_t* shifts, int64_t* row_ptr,
                               int64_t capacity) {
  return current->fill({centers, neighbors, shifts, row_ptr, capacity});
}

// Which crystals of the list between count and fill are searched with one image of each atom.
const char* neighbor_list_one_image(int64_t* flags) {
  for (int64_t b = 0; b < current->num_crystals(); ++b) flags[b] = current->crystals()[b].one_image;
  return nullptr;
}

const char* neighbor_list_pad(int64_t* centers, int64_t* neighbors, int32_t* shifts, int64_t* row_ptr, int64_t capacity,
                              int64_t* num_bonds, int64_t* status) {
  return current->pad({centers, neighbors, shifts, row_ptr, capacity}, num_bonds, status);
}
}

DTNN_CASE(neighbor_list) {
  for (const bool half : {false, true}) {
    for (const bool with_large : {false, true}) {
      const dtnn::cases::BoxBatch batch({3, 0, 1, 40, 9, 0}, {4, 5, 3}, 1);
      for (const double cutoff : {0.0, 1.0, 4.5}) {
        const std::string error = dtnn::cases::check_box_batch(batch, cutoff, half, with_large, 5);
        if (!error.empty()) return error;
      }
    }
  }
  return "";
}
