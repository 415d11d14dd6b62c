// SPDX-License-Identifier: MIT
#include "atom_to_bond_gather.h"
#include "bad_index.h"
#include "payload.h"

namespace dtnn::cuda {
namespace {

const char* const kTexts[] = {
    "expected `pairs` with atoms in [0, %N), got an index outside: %V at pairs[0, %P]",
    "expected `pairs` with atoms in [0, %N), got an index outside: %V at pairs[1, %P]",
};

// Units of a thread whose loads do not wait for each other. Of 16-bit numbers two, whose sums take as many registers.
template <typename T>
constexpr int kInFlight = sizeof(T) == 2 ? 2 : 4;
template <typename T>
constexpr unsigned kUnitsPerBlock = kInFlight<T> * kMaxThreads;
constexpr int kBlocksPerSm = 4;  // 64 registers a thread

// The atoms at one end of the bonds of a thread's units. All indices are loaded before the first is looked at, and all
// are looked at in one branch, so that nothing stands between the loads of values.
template <int kInFlight>
struct EndAtoms {
  int64_t atom[kInFlight];
  bool bad[kInFlight];

  // `atoms`: of the rows of this block.
  __device__ __forceinline__ void load(const int64_t* atoms, const unsigned (&row)[kInFlight]) {
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) atom[k] = atoms[row[k]];
  }

  // Notes bad indices, and replaces them by 0.
  __device__ __forceinline__ void check(int64_t num_atoms, unsigned number, int64_t first_bond,
                                        const unsigned (&row)[kInFlight], BadIndex& first) {
    bool any = false;
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      bad[k] = static_cast<uint64_t>(atom[k]) >= static_cast<uint64_t>(num_atoms);
      any |= bad[k];
    }
    if (!any) return;
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      if (!bad[k]) continue;
      first.see(number, first_bond + row[k], atom[k]);
      atom[k] = 0;
    }
  }
};

template <typename T, int W, int kInFlight>
__device__ __forceinline__ void add_end(Pack<SumOf<T>, W> (&sum)[kInFlight], SumOf<T> coefficient,
                                        const EndAtoms<kInFlight>& end, const Pack<T, W>* values, int64_t units_per_row,
                                        const unsigned (&column)[kInFlight]) {
  Pack<T, W> value[kInFlight];
#pragma unroll
  for (int k = 0; k < kInFlight; ++k) value[k] = values[end.atom[k] * units_per_row + column[k]];
  // A bad end's coefficient is NaN, and so is its row. Set after the additions, it makes ptxas wait for each load.
#pragma unroll
  for (int k = 0; k < kInFlight; ++k) {
    add_scaled(sum[k], end.bad[k] ? not_a_number<SumOf<T>>() : coefficient, value[k]);
  }
}

template <typename T, int W>
__global__ void __launch_bounds__(kMaxThreads, kBlocksPerSm) gather_rows(BondEndsArgs<T> args, RowTiling tiling) {
  using Unit = Pack<T, W>;
  constexpr int in_flight = kInFlight<T>;
  const Unit* const values = reinterpret_cast<const Unit*>(args.values);
  Unit* const out = reinterpret_cast<Unit*>(args.out);
  const int64_t units_per_row = tiling.units_per_row;
  const int64_t stride = int64_t{gridDim.x} * tiling.rows_per_block;
  BadIndex bad_index;
  for (int64_t first = int64_t{blockIdx.x} * tiling.rows_per_block; first < args.num_bonds; first += stride) {
    const int64_t rows_left = args.num_bonds - first;
    const unsigned rows = rows_left < tiling.rows_per_block ? static_cast<unsigned>(rows_left) : tiling.rows_per_block;
    const unsigned units = rows * tiling.units_per_row;
    for (unsigned begin = threadIdx.x; begin < units; begin += in_flight * blockDim.x) {
      unsigned row[in_flight], column[in_flight];
#pragma unroll
      for (int k = 0; k < in_flight; ++k) {
        // Beyond the end the last unit is made again, and not stored.
        const unsigned unit = min(begin + k * blockDim.x, units - 1);
        row[k] = tiling.to_row.quotient(unit);
        column[k] = unit - row[k] * tiling.units_per_row;
      }
      Pack<SumOf<T>, W> sum[in_flight] = {};
      EndAtoms<in_flight> atoms;
      if (args.center != 0) {
        atoms.load(args.pairs + first, row);
        atoms.check(args.num_atoms, 0, first, row, bad_index);
        add_end(sum, static_cast<SumOf<T>>(args.center), atoms, values, units_per_row, column);
      }
      if (args.neighbor != 0) {
        atoms.load(args.pairs + args.num_bonds + first, row);
        atoms.check(args.num_atoms, 1, first, row, bad_index);
        add_end(sum, static_cast<SumOf<T>>(args.neighbor), atoms, values, units_per_row, column);
      }
#pragma unroll
      for (int k = 0; k < in_flight; ++k) {
        const unsigned unit = begin + k * blockDim.x;
        if (unit < units) out[first * units_per_row + unit] = narrowed<T>(sum[k]);
      }
    }
  }
  bad_index.report(args.errors);
}

template <typename T, int W>
const char* launch_rows(const BondEndsArgs<T>& args, void* stream) {
  const RowTiling tiling = tile_rows(args.num_bonds, args.width / W, kUnitsPerBlock<T>);
  auto* const kernel = gather_rows<T, W>;
  DTNN_LAUNCH(kernel, grid_size(tiling.blocks), tiling.threads, 0, stream, args, tiling);
  return launch_error();
}

}  // namespace

template <typename T>
const char* launch_atom_to_bond_gather(const BondEndsArgs<T>& arguments, void* stream) {
  if (arguments.num_bonds == 0 || arguments.width == 0) return nullptr;
  if (arguments.width > kMaxWidth) return kTooWide;
  BondEndsArgs<T> args = arguments;
  args.errors = arguments.errors.with(kTexts, args.num_atoms, args.num_bonds);
  if (can_pack<T>(args.width, args.values, args.out)) return launch_rows<T, kPackBytes / sizeof(T)>(args, stream);
  return launch_rows<T, 1>(args, stream);
}

template const char* launch_atom_to_bond_gather<float>(const BondEndsArgs<float>&, void*);
template const char* launch_atom_to_bond_gather<double>(const BondEndsArgs<double>&, void*);
template const char* launch_atom_to_bond_gather<Float16>(const BondEndsArgs<Float16>&, void*);
template const char* launch_atom_to_bond_gather<BFloat16>(const BondEndsArgs<BFloat16>&, void*);

}  // namespace dtnn::cuda
