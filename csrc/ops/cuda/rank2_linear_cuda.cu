// SPDX-License-Identifier: MIT
#include "rank2_product.h"

namespace dtnn::cuda {
namespace {

// Writes the sums and, on request, their norms.
template <typename T>
struct LinearEpilogue {
  static constexpr bool rows_are_given = false;
  Output<T> out;
  Output<T> norm;
  T eps;

  template <int lane_packs>
  __device__ void finish(const Packed<T> (&sums)[kLaneRows][lane_packs], int64_t row, int64_t atom,
                         const Rank2Sizes& sizes, int64_t column) const {
    const int64_t num_rows = sizes.num_atoms * sizes.components;
#pragma unroll
    for (int p = 0; p < lane_packs; ++p) {
      const int64_t first = column + p * 4 * kPackSize<T>;
      int64_t current = atom;
      Packed<T> squares{};
#pragma unroll
      for (unsigned i = 0; i < kLaneRows; ++i) {
        if (row + i >= num_rows) break;
        const Packed<T> y = sums[i][p];
        store_pack(out, row + i, first, y);
        if (norm.data == nullptr) continue;
        const T weight = i >= 3 && sizes.components == 6 ? T(2) : T(1);
#pragma unroll
        for (int v = 0; v < kPackSize<T>; ++v) squares.item[v] += weight * y.item[v] * y.item[v];
        if (!is_last_component(i, sizes.components)) continue;
#pragma unroll
        for (T& item : squares.item) item = sqrt(item + eps * eps) - eps;
        store_pack(norm, current++, first, squares);
        squares = Packed<T>{};
      }
    }
  }
};

}  // namespace

template <typename T>
const char* launch_rank2_linear(const Rank2LinearArgs<T>& args, void* stream) {
  const Rank2Sizes& sizes = args.sizes;
  if (sizes.num_atoms == 0) return nullptr;
  if (sizes.channels_out == 0) {
    if (args.rows.grad_gate == nullptr) return nullptr;
    const Rank2GateGradArgs<T> gate{args.rows, sizes.num_atoms, sizes.components, sizes.channels_in};
    return launch_rank2_gate_grad(gate, stream);
  }
  const LinearEpilogue<T> epilogue{Output<T>(args.out, sizes.channels_out), Output<T>(args.norm, sizes.channels_out),
                                   args.eps};
  return launch_product_as(args.precision, args.rows, args.weight, sizes, epilogue, stream);
}

template const char* launch_rank2_linear<float>(const Rank2LinearArgs<float>&, void*);
template const char* launch_rank2_linear<double>(const Rank2LinearArgs<double>&, void*);

}  // namespace dtnn::cuda
