// SPDX-License-Identifier: MIT
// Sums of the perceptrons' values at the atoms, and their gradients. A thread adds one pack of one atom, over the bonds
// in a fixed order. Backward, a warp takes one bond.
#include "bond_perceptron_sum.h"
#include "bond_rows.h"
#include "payload.h"
#include "warp_sums.h"

namespace dtnn::cuda {
namespace {

#define DTNN_WRONG_BONDS                                                             \
  "expected `pairs` sorted by center as `row_ptr` says, with atoms in [0, %N), got " \
  "a bond in another atom's segment or an index out of range: "
const char* const kTexts[2 * kEndChecks] = {
    "expected `row_ptr` from 0 to the number of bonds, %E, got %V to %W",
    DTNN_WRONG_BONDS "%V at row_ptr[%P]",
    DTNN_WRONG_BONDS "bond %P after bond %V",
    DTNN_WRONG_BONDS "%V at pairs[0, %P]",
    DTNN_WRONG_BONDS "`neighbor_row_ptr` from %V to %W for %E bonds",
    DTNN_WRONG_BONDS "%V at neighbor_row_ptr[%P]",
    DTNN_WRONG_BONDS "%V at neighbor_order[%P]",
    DTNN_WRONG_BONDS "%V at pairs[1, %P]",
};
#undef DTNN_WRONG_BONDS

template <typename T>
__device__ __forceinline__ BondEnd end_of(const BondValueEnds<T>& ends, int side) {
  if (side == 0) return {ends.pairs, nullptr, ends.row_ptr, ends.num_atoms, ends.num_bonds, 0};
  return {ends.pairs + ends.num_bonds,
          ends.neighbor_order,
          ends.neighbor_row_ptr,
          ends.num_atoms,
          ends.num_bonds,
          kEndChecks};
}

// How much of a bond's value enters at one end.
template <typename T>
__device__ __forceinline__ T share_of(const BondValueEnds<T>& ends, int side, int64_t bond) {
  const T envelope = ends.envelope[bond];
  return ends.factors == nullptr ? envelope : envelope * ends.factors[side * ends.num_bonds + bond];
}

template <typename T, int W>
struct SharedPack {
  Pack<T, W> pack;
  T share;
};

template <typename T, int W>
__global__ void __launch_bounds__(kMaxThreads)
    sum_values(BondValueEnds<T> ends, const Pack<T, W>* values, Pack<T, W>* sums, int64_t num_rows, RowTiling tiling) {
  constexpr int in_flight = 4;
  BadIndex unreported;
  const int64_t packs = tiling.units_per_row;
  for (int64_t first = int64_t{blockIdx.x} * tiling.rows_per_block; first < num_rows;
       first += int64_t{gridDim.x} * tiling.rows_per_block) {
    const int64_t left = num_rows - first;
    const unsigned rows = left < tiling.rows_per_block ? static_cast<unsigned>(left) : tiling.rows_per_block;
    for (unsigned unit = threadIdx.x; unit < rows * tiling.units_per_row; unit += blockDim.x) {
      const unsigned row = tiling.to_row.quotient(unit);
      const int64_t column = unit - row * tiling.units_per_row;
      const int64_t member = (first + row) / ends.num_atoms, atom = first + row - member * ends.num_atoms;
      const Pack<T, W>* const from = values + member * ends.num_bonds * packs + column;
      Pack<T, W> sum{};
      bool good = true;
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const auto load = [&](int64_t bond) {
          return SharedPack<T, W>{from[bond * packs], share_of(ends, side, bond)};
        };
        const auto add = [&](const SharedPack<T, W>& value) { add_scaled(sum, value.share, value.pack); };
        good &= for_each_bond<in_flight>(end_of(ends, side), atom, unreported, load, add);
      }
      if (!good) fill(sum, not_a_number<T>());
      sums[(first + row) * packs + column] = sum;
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(128) sum_envelopes(BondValueEnds<T> ends, T* sums) {
  constexpr int in_flight = 4;
  BadIndex bad;
  for (int64_t atom = int64_t{blockIdx.x} * 128 + threadIdx.x; atom < ends.num_atoms;
       atom += int64_t{gridDim.x} * 128) {
    T sum = 0;
    bool good = true;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const auto load = [&](int64_t bond) { return share_of(ends, side, bond); };
      good &= for_each_bond<in_flight>(end_of(ends, side), atom, bad, load, [&](T share) { sum += share; });
    }
    sums[atom] = good ? sum : not_a_number<T>();
  }
  bad.report(ends.errors);
}

template <typename T>
__global__ void __launch_bounds__(256) fill_value_grads(BondValueEnds<T> ends, BondValueGrads<T> grads) {
  const unsigned lane = threadIdx.x % 32;
  const int64_t width = grads.outputs;
  const bool dots = grads.envelope != nullptr || grads.factors != nullptr;
  BadIndex bad;
  for (int64_t row = int64_t{blockIdx.x} * 8 + threadIdx.x / 32; row < grads.rows; row += int64_t{gridDim.x} * 8) {
    const int64_t bond = grads.first + row;
    int64_t atoms[2] = {ends.pairs[bond], ends.pairs[ends.num_bonds + bond]};
    T spoiled = 0;
#pragma unroll
    for (unsigned side = 0; side < 2; ++side) {
      if (static_cast<uint64_t>(atoms[side]) < static_cast<uint64_t>(ends.num_atoms)) continue;
      bad.see(side * kEndChecks + kAtom, bond, atoms[side]);
      spoiled = not_a_number<T>();
      atoms[side] = 0;
    }
    const T at_center = share_of(ends, 0, bond) + spoiled, at_neighbor = share_of(ends, 1, bond) + spoiled;
    T center_dot = 0, neighbor_dot = 0;
    for (int64_t m = 0; grads.grad_sums != nullptr && m < grads.members; ++m) {
      const T* const center = grads.grad_sums + (m * ends.num_atoms + atoms[0]) * width;
      const T* const neighbor = grads.grad_sums + (m * ends.num_atoms + atoms[1]) * width;
      const int64_t place = (m * grads.value_rows + row) * width;
#pragma unroll 2
      for (int64_t d = lane; d < width; d += 32) {
        const T from_center = center[d], from_neighbor = neighbor[d], value = dots ? grads.values[place + d] : T(0);
        grads.grad_values[place + d] = at_center * from_center + at_neighbor * from_neighbor;
        center_dot += from_center * value;
        neighbor_dot += from_neighbor * value;
      }
    }
    if (!dots) continue;
    center_dot = sum_of_lanes(center_dot) + spoiled;
    neighbor_dot = sum_of_lanes(neighbor_dot) + spoiled;
    if (lane != 0) continue;
    if (grads.grad_envelope_sum != nullptr) {
      center_dot += grads.grad_envelope_sum[atoms[0]];
      neighbor_dot += grads.grad_envelope_sum[atoms[1]];
    }
    const T center_factor = ends.factors == nullptr ? T(1) : ends.factors[bond];
    const T neighbor_factor = ends.factors == nullptr ? T(1) : ends.factors[ends.num_bonds + bond];
    if (grads.envelope != nullptr) {
      grads.envelope[bond] = center_factor * center_dot + neighbor_factor * neighbor_dot;
    }
    if (grads.factors == nullptr) continue;
    grads.factors[bond] = ends.envelope[bond] * center_dot;
    grads.factors[ends.num_bonds + bond] = ends.envelope[bond] * neighbor_dot;
  }
  bad.report(ends.errors);
}

template <typename T>
__global__ void __launch_bounds__(256) join_parts(PerceptronParts<T> parts, T* flat, int64_t size, int64_t members) {
  for (int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x; i < size * members; i += int64_t{gridDim.x} * 256) {
    const int64_t member = i / size;
    int64_t place = i - member * size;
#pragma unroll
    for (int k = 0; k < kPerceptronParts; ++k) {
      if (place >= 0 && place < parts.sizes[k]) flat[i] = parts.data[k][member * parts.sizes[k] + place];
      place -= parts.sizes[k];
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(256)
    split_parts(const T* flat, PerceptronPartGrads<T> parts, int64_t size, int64_t members) {
  for (int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x; i < size * members; i += int64_t{gridDim.x} * 256) {
    const int64_t member = i / size;
    int64_t place = i - member * size;
#pragma unroll
    for (int k = 0; k < kPerceptronParts; ++k) {
      if (place >= 0 && place < parts.sizes[k]) parts.data[k][member * parts.sizes[k] + place] = flat[i];
      place -= parts.sizes[k];
    }
  }
}

template <typename T, int W>
const char* launch_sums(const BondValueEnds<T>& ends, const T* values, T* sums, int64_t members, int64_t packs,
                        void* stream) {
  const int64_t rows = members * ends.num_atoms;
  const RowTiling tiling = tile_rows(rows, packs, kMaxThreads);
  auto* const kernel = sum_values<T, W>;
  DTNN_LAUNCH(kernel, grid_size(tiling.blocks), tiling.threads, 0, stream, ends,
              reinterpret_cast<const Pack<T, W>*>(values), reinterpret_cast<Pack<T, W>*>(sums), rows, tiling);
  return launch_error();
}

}  // namespace

template <typename T>
const char* launch_bond_value_sums(const BondValueEnds<T>& ends, const T* values, T* sums, int64_t members,
                                   int64_t outputs, void* stream) {
  if (outputs > kMaxWidth) return kTooWide;
  if (members * ends.num_atoms * outputs == 0) return nullptr;
  constexpr int W = kPackBytes / sizeof(T);
  if (can_pack<T>(outputs, values, sums)) return launch_sums<T, W>(ends, values, sums, members, outputs / W, stream);
  return launch_sums<T, 1>(ends, values, sums, members, outputs, stream);
}

template <typename T>
const char* launch_envelope_sum(const BondValueEnds<T>& arguments, T* envelope_sum, void* stream) {
  if (arguments.num_atoms == 0) return nullptr;
  BondValueEnds<T> ends = arguments;
  ends.errors = arguments.errors.with(kTexts, ends.num_atoms, ends.num_bonds);
  DTNN_LAUNCH(sum_envelopes<T>, grid_size((ends.num_atoms + 127) / 128), 128, 0, stream, ends, envelope_sum);
  return launch_error();
}

template <typename T>
const char* launch_join_parts(const PerceptronParts<T>& parts, T* flat, int64_t members, void* stream) {
  int64_t size = 0;
  for (const int64_t part : parts.sizes) size += part;
  if (size * members == 0) return nullptr;
  DTNN_LAUNCH(join_parts<T>, grid_size((size * members + 255) / 256), 256, 0, stream, parts, flat, size, members);
  return launch_error();
}

template <typename T>
const char* launch_bond_value_grads(const BondValueEnds<T>& arguments, const BondValueGrads<T>& grads, void* stream) {
  if (grads.rows == 0) return nullptr;
  BondValueEnds<T> ends = arguments;
  ends.errors = arguments.errors.with(kTexts, ends.num_atoms, ends.num_bonds);
  DTNN_LAUNCH(fill_value_grads<T>, grid_size((grads.rows + 7) / 8), 256, 0, stream, ends, grads);
  return launch_error();
}

template <typename T>
const char* launch_split_parts(const T* flat, const PerceptronPartGrads<T>& parts, int64_t members, void* stream) {
  int64_t size = 0;
  for (const int64_t part : parts.sizes) size += part;
  if (size * members == 0) return nullptr;
  DTNN_LAUNCH(split_parts<T>, grid_size((size * members + 255) / 256), 256, 0, stream, flat, parts, size, members);
  return launch_error();
}

#define DTNN_BOND_PERCEPTRONS(T)                                                                                  \
  template const char* launch_bond_value_sums<T>(const BondValueEnds<T>&, const T*, T*, int64_t, int64_t, void*); \
  template const char* launch_envelope_sum<T>(const BondValueEnds<T>&, T*, void*);                                \
  template const char* launch_join_parts<T>(const PerceptronParts<T>&, T*, int64_t, void*);                       \
  template const char* launch_bond_value_grads<T>(const BondValueEnds<T>&, const BondValueGrads<T>&, void*);      \
  template const char* launch_split_parts<T>(const T*, const PerceptronPartGrads<T>&, int64_t, void*);
DTNN_BOND_PERCEPTRONS(float)
DTNN_BOND_PERCEPTRONS(double)

}  // namespace dtnn::cuda
