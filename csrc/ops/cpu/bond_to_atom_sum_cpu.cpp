// SPDX-License-Identifier: MIT
#include <algorithm>
#include <vector>

#include "core/simd_level.h"
#include "ops/bond_to_atom_sum.h"
#include "ops/cpu/checked_rows.h"
#include "ops/cpu/sixteen_bits.h"
#include "ops/cpu/tensor_large_pages.h"

namespace dtnn {
namespace {

template <typename T>
struct SumJob {
  const T* values;
  const int64_t* pairs;
  int64_t num_bonds;
  int64_t payload;
  T* out;
};

// One end's share of a row of the output: the bonds order[begin..end) (or begin..end where order is null), all of which
// must have `atom` at that end.
template <typename T>
DTNN_ALWAYS_INLINE bool add_bonds(const SumJob<T>& job, int64_t atom, const int64_t* end_atoms, const int64_t* order,
                                  int64_t begin, int64_t end, SumOf<T> coefficient, SumOf<T>* row) {
  if (begin < 0 || end > job.num_bonds || begin > end) return false;
  int64_t previous = -1;  // bonds ascend within a segment, so none is counted twice and another one left out
  for (int64_t k = begin; k < end; ++k) {
    const int64_t bond = order == nullptr ? k : order[k];
    if (bond <= previous || bond >= job.num_bonds || end_atoms[bond] != atom) return false;
    previous = bond;
    const T* value = job.values + bond * job.payload;
    for (int64_t p = 0; p < job.payload; ++p) row[p] += coefficient * widen(value[p]);
  }
  return true;
}

// `sums` has room for one row; it is used for 16 bits only.
template <typename T>
DTNN_ALWAYS_INLINE bool sum_atoms(const SumJob<T>& job, const int64_t* row_ptr, const int64_t* order,
                                  const int64_t* order_ptr, SumOf<T> center, SumOf<T> neighbor, int64_t first,
                                  int64_t last, SumOf<T>* sums) {
  for (int64_t n = first; n < last; ++n) {
    T* out = job.out + n * job.payload;
    SumOf<T>* row = sums;
    if constexpr (!kHas16Bits<T>) row = out;
    std::fill(row, row + job.payload, SumOf<T>(0));
    if (center != 0 && !add_bonds(job, n, job.pairs, nullptr, row_ptr[n], row_ptr[n + 1], center, row)) return false;
    if (neighbor != 0 &&
        !add_bonds(job, n, job.pairs + job.num_bonds, order, order_ptr[n], order_ptr[n + 1], neighbor, row)) {
      return false;
    }
    if constexpr (kHas16Bits<T>) {
      for (int64_t p = 0; p < job.payload; ++p) out[p] = narrow<T>(row[p]);
    }
  }
  return true;
}

#define DTNN_SUM_ROWS(T)                                                                                            \
  DTNN_SIMD_VERSIONS(bool, sum_rows, sum_atoms,                                                                     \
                     (const SumJob<T>& job, const int64_t* row_ptr, const int64_t* order, const int64_t* order_ptr, \
                      SumOf<T> center, SumOf<T> neighbor, int64_t first, int64_t last, SumOf<T>* sums),             \
                     (job, row_ptr, order, order_ptr, center, neighbor, first, last, sums))
DTNN_SUM_ROWS(float)
DTNN_SUM_ROWS(double)
DTNN_SUM_ROWS(Half)
DTNN_SUM_ROWS(BFloat16)
#undef DTNN_SUM_ROWS

bool covers_all_bonds(const int64_t* row_ptr, int64_t num_atoms, int64_t num_bonds) {
  return row_ptr[0] == 0 && row_ptr[num_atoms] == num_bonds;
}

template <typename T>
Tensor run(const Tensor& bond_values, const BondEnds& ends) {
  const Tensor values = torch::stable::contiguous(bond_values);
  const int64_t num_atoms = ends.num_atoms();
  Tensor out = empty_rows(values, num_atoms);
  advise_large_pages(out);
  const SumJob<T> job{values.template const_data_ptr<T>(), ends.pairs.const_data_ptr<int64_t>(), ends.num_bonds(),
                      payload_size(values), out.template mutable_data_ptr<T>()};
  const int64_t* row_ptr = ends.row_ptr.const_data_ptr<int64_t>();
  const int64_t* order = data_or_null<int64_t>(ends.neighbor_order);
  const int64_t* order_ptr = data_or_null<int64_t>(ends.neighbor_row_ptr);

  DTNN_CHECK(ends.center == 0 || covers_all_bonds(row_ptr, num_atoms, job.num_bonds),
             "bond_to_atom_sum: expected `row_ptr` from 0 to the number of bonds, ", job.num_bonds, ", got ",
             row_ptr[0], " to ", row_ptr[num_atoms]);
  DTNN_CHECK(ends.neighbor == 0 || covers_all_bonds(order_ptr, num_atoms, job.num_bonds),
             "bond_to_atom_sum: expected `neighbor_row_ptr` from 0 to the number of bonds, ", job.num_bonds, ", got ",
             order_ptr[0], " to ", order_ptr[num_atoms], ": are all neighbors in `pairs` in [0, ", num_atoms, ")?");

  const int64_t elements_per_atom = job.payload * (job.num_bonds + 1) / (num_atoms + 1);
  const bool consistent = fill_rows(num_atoms, elements_per_atom, [&](int64_t first, int64_t last) {
    std::vector<SumOf<T>> sums(kHas16Bits<T> ? job.payload : 0);
    return sum_rows(job, row_ptr, order, order_ptr, static_cast<SumOf<T>>(ends.center),
                    static_cast<SumOf<T>>(ends.neighbor), first, last, sums.data());
  });
  DTNN_CHECK(consistent,
             "bond_to_atom_sum: expected `pairs` sorted by center as `row_ptr` says (and by neighbor as "
             "`neighbor_order` says), got a bond in another atom's segment, a bond twice or an index out of range");
  return out;
}

}  // namespace

Tensor bond_to_atom_sum_cpu(const Tensor& bond_values, const BondEnds& ends) {
  return dispatch_floating(bond_values.scalar_type(),
                           [&](auto type) { return run<decltype(type)>(bond_values, ends); });
}

}  // namespace dtnn
