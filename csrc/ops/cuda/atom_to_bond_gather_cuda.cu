// SPDX-License-Identifier: MIT
#include "gpu.h"
#include "launchers.h"
#include "payload.h"

namespace dtnn::cuda {
namespace {

// Four units a thread: the loads of the four do not wait for each other.
constexpr unsigned kUnitsPerBlock = 4 * kMaxThreads;

template <typename T, int W>
__global__ void __launch_bounds__(kMaxThreads) gather_rows(AtomToBondGatherArgs<T> args, RowTiling tiling) {
  using Unit = Pack<T, W>;
  const Unit* const values = reinterpret_cast<const Unit*>(args.values);
  Unit* const out = reinterpret_cast<Unit*>(args.out);
  const int64_t units_per_row = tiling.units_per_row;
  const int64_t stride = int64_t{gridDim.x} * tiling.rows_per_block;
  for (int64_t first = int64_t{blockIdx.x} * tiling.rows_per_block; first < args.num_bonds; first += stride) {
    const int64_t rows_left = args.num_bonds - first;
    const unsigned rows = rows_left < tiling.rows_per_block ? static_cast<unsigned>(rows_left) : tiling.rows_per_block;
    const unsigned units = rows * tiling.units_per_row;
#pragma unroll 4
    for (unsigned unit = threadIdx.x; unit < units; unit += blockDim.x) {
      const int64_t bond = first + unit / tiling.units_per_row;
      const unsigned column = unit % tiling.units_per_row;
      Unit result{};
      if (args.center != 0) {
        add_scaled(result, static_cast<T>(args.center), values[args.pairs[bond] * units_per_row + column]);
      }
      if (args.neighbor != 0) {
        const int64_t atom = args.pairs[args.num_bonds + bond];
        add_scaled(result, static_cast<T>(args.neighbor), values[atom * units_per_row + column]);
      }
      out[first * units_per_row + unit] = result;
    }
  }
}

template <typename T, int W>
const char* launch_rows(const AtomToBondGatherArgs<T>& args, void* stream) {
  const RowTiling tiling = tile_rows(args.num_bonds, args.width / W, kUnitsPerBlock);
  auto* const kernel = gather_rows<T, W>;
  DTNN_LAUNCH(kernel, grid_size(tiling.blocks), tiling.threads, 0, stream, args, tiling);
  return launch_error();
}

}  // namespace

template <typename T>
const char* launch_atom_to_bond_gather(const AtomToBondGatherArgs<T>& args, void* stream) {
  if (args.num_bonds == 0 || args.width == 0) return nullptr;
  if (args.width > kMaxWidth) return kTooWide;
  if (can_pack<T>(args.width, args.values, args.out)) return launch_rows<T, kPackBytes / sizeof(T)>(args, stream);
  return launch_rows<T, 1>(args, stream);
}

template const char* launch_atom_to_bond_gather<float>(const AtomToBondGatherArgs<float>&, void*);
template const char* launch_atom_to_bond_gather<double>(const AtomToBondGatherArgs<double>&, void*);

}  // namespace dtnn::cuda
