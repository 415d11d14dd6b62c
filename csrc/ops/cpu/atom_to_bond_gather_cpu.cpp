// SPDX-License-Identifier: MIT
#include "core/simd_level.h"
#include "ops/atom_to_bond_gather.h"
#include "ops/cpu/checked_rows.h"
#include "ops/cpu/sixteen_bits.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {
namespace {

template <typename T>
struct GatherJob {
  const T* values;
  const int64_t* centers;
  const int64_t* neighbors;
  int64_t num_atoms;
  int64_t payload;
  T* out;
};

template <typename T>
DTNN_ALWAYS_INLINE bool gather_bonds(const GatherJob<T>& job, SumOf<T> center, SumOf<T> neighbor, int64_t first,
                                     int64_t last) {
  for (int64_t e = first; e < last; ++e) {
    const int64_t i = job.centers[e], j = job.neighbors[e];
    if (i < 0 || i >= job.num_atoms || j < 0 || j >= job.num_atoms) return false;
    const T* x = job.values + i * job.payload;
    const T* y = job.values + j * job.payload;
    T* row = job.out + e * job.payload;
    if (neighbor == 0) {
      for (int64_t p = 0; p < job.payload; ++p) row[p] = narrow<T>(center * widen(x[p]));
    } else if (center == 0) {
      for (int64_t p = 0; p < job.payload; ++p) row[p] = narrow<T>(neighbor * widen(y[p]));
    } else {
      for (int64_t p = 0; p < job.payload; ++p) {
        row[p] = narrow<T>(center * widen(x[p]) + neighbor * widen(y[p]));
      }
    }
  }
  return true;
}

#define DTNN_GATHER_ROWS(T)                                                                                      \
  DTNN_SIMD_VERSIONS(bool, gather_rows, gather_bonds,                                                            \
                     (const GatherJob<T>& job, SumOf<T> center, SumOf<T> neighbor, int64_t first, int64_t last), \
                     (job, center, neighbor, first, last))
DTNN_GATHER_ROWS(float)
DTNN_GATHER_ROWS(double)
DTNN_GATHER_ROWS(Half)
DTNN_GATHER_ROWS(BFloat16)
#undef DTNN_GATHER_ROWS

template <typename T>
Tensor run(const Tensor& atom_values, const BondEnds& ends) {
  const Tensor values = torch::stable::contiguous(atom_values);
  const int64_t num_bonds = ends.num_bonds();
  Tensor out = empty_rows(values, num_bonds);
  advise_large_pages(out);
  const int64_t* pairs = ends.pairs.const_data_ptr<int64_t>();
  const GatherJob<T> job{
      values.template const_data_ptr<T>(), pairs, pairs + num_bonds, ends.num_atoms(), payload_size(values),
      out.template mutable_data_ptr<T>()};
  const bool in_range = fill_rows(num_bonds, job.payload, [&](int64_t first, int64_t last) {
    return gather_rows(job, static_cast<SumOf<T>>(ends.center), static_cast<SumOf<T>>(ends.neighbor), first, last);
  });
  DTNN_CHECK(in_range, "atom_to_bond_gather: expected `pairs` with atoms in [0, ", job.num_atoms,
             "), got an index outside");
  return out;
}

}  // namespace

Tensor atom_to_bond_gather_cpu(const Tensor& atom_values, const BondEnds& ends) {
  return dispatch_floating(atom_values.scalar_type(),
                           [&](auto type) { return run<decltype(type)>(atom_values, ends); });
}

}  // namespace dtnn
