// SPDX-License-Identifier: MIT
// Both reductions of a cell, the CPU's and the GPU's, for test_device_lattice_cuda.py to compare. They fill `basis` and
// `dual` [3, 3], `combination` [3, 3], `height` and `rounding_length` [3], and `flags` [2]: whether the cell has a
// volume, and whether the basis is the cell's own vectors.
#include <stdexcept>

#include "../../csrc/core/lattice.h"
#include "neighbor/device_lattice.h"

namespace {

struct ReducedCell {
  double* basis;
  int64_t* combination;
  double* dual;
  double* height;
  double* rounding_length;
  int64_t* flags;
};

__global__ void reduce_cell(const double* cell, const bool* periodic, ReducedCell reduced) {
  dtnn::cuda::Lattice lattice;
  reduced.flags[0] = dtnn::cuda::make_lattice(cell, periodic, lattice);
  if (reduced.flags[0] == 0) return;
  reduced.flags[1] = lattice.keeps_cell;
  for (int k = 0; k < 3; ++k) {
    for (int x = 0; x < 3; ++x) {
      reduced.basis[3 * k + x] = lattice.basis[k][x];
      reduced.combination[3 * k + x] = lattice.combination[k][x];
      reduced.dual[3 * k + x] = lattice.dual[k][x];
    }
    reduced.height[k] = lattice.height[k];
    reduced.rounding_length[k] = lattice.rounding_length[k];
  }
}

}  // namespace

extern "C" {
const char* device_lattice(const double* cell, const bool* periodic, double* basis, int64_t* combination, double* dual,
                           double* height, double* rounding_length, int64_t* flags) {
  const ReducedCell reduced{basis, combination, dual, height, rounding_length, flags};
  DTNN_LAUNCH(reduce_cell, 1, 1, 0, nullptr, cell, periodic, reduced);
  return dtnn::cuda::launch_error();
}

// Periodic vectors come first here, in their order.
const char* host_lattice(const double* cell, const bool* periodic, double* basis, int64_t* combination, double* dual,
                         double* height, double* rounding_length, int64_t* flags) {
  flags[0] = 0;
  try {
    const dtnn::Lattice lattice = dtnn::make_lattice(cell, periodic);
    flags[0] = 1;
    flags[1] = lattice.keeps_cell;
    for (int k = 0; k < 3; ++k) {
      for (int x = 0; x < 3; ++x) {
        basis[3 * k + x] = lattice.basis[k][x];
        combination[3 * k + x] = lattice.combination[k][x];
        dual[3 * k + x] = lattice.dual[k][x];
      }
      height[k] = lattice.height[k];
      rounding_length[k] = lattice.rounding_length[k];
    }
  } catch (const std::invalid_argument&) {  // no volume
  }
  return nullptr;
}
}
