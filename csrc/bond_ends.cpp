// SPDX-License-Identifier: MIT
#include "bond_ends.h"

#include <vector>

#include "sorted_bonds.h"

namespace dtnn {

BondEnds check_bond_ends(const char* op, const char* values_name, const Tensor& values, const Tensor& pairs,
                         const Tensor& row_ptr, const OptionalTensor& neighbor_order,
                         const OptionalTensor& neighbor_row_ptr, int64_t center, int64_t neighbor) {
  check_floating_or_16_bits(op, values_name, values);
  DTNN_CHECK(values.dim() >= 1, op, ": expected `", values_name,
             "` with atoms or bonds as the first dimension, got a scalar");
  check_pairs(op, pairs, values_name, values);
  check_row_ptr(op, row_ptr, values_name, values);
  DTNN_CHECK(center >= -1 && center <= 1 && neighbor >= -1 && neighbor <= 1, op,
             ": expected coefficients -1, 0 or 1 for the ends, got ", center, " and ", neighbor);

  BondEnds ends{torch::stable::contiguous(pairs), torch::stable::contiguous(row_ptr), {}, {}, center, neighbor};
  if (neighbor == 0) return ends;
  DTNN_CHECK(neighbor_order.has_value() && neighbor_row_ptr.has_value(), op,
             ": expected `neighbor_order` and `neighbor_row_ptr` for the neighbors' ends, got none");
  check_dtype(op, "neighbor_order", *neighbor_order, ScalarType::Long);
  check_shape(op, "neighbor_order", *neighbor_order, "[E]", {pairs.size(1)});
  check_same_device(op, "neighbor_order", *neighbor_order, values_name, values);
  check_dtype(op, "neighbor_row_ptr", *neighbor_row_ptr, ScalarType::Long);
  check_shape(op, "neighbor_row_ptr", *neighbor_row_ptr, "[N+1]", {row_ptr.size(0)});
  check_same_device(op, "neighbor_row_ptr", *neighbor_row_ptr, values_name, values);
  ends.neighbor_order = torch::stable::contiguous(*neighbor_order);
  ends.neighbor_row_ptr = torch::stable::contiguous(*neighbor_row_ptr);
  return ends;
}

std::string bond_ends_schema(const std::string& op, const std::string& values_name) {
  return op + "(Tensor " + values_name +
         ", Tensor pairs, Tensor row_ptr, Tensor? neighbor_order, Tensor? neighbor_row_ptr, int center, int neighbor) "
         "-> Tensor";
}

int64_t payload_size(const Tensor& values) {
  int64_t size = 1;
  for (int64_t d = 1; d < values.dim(); ++d) size *= values.size(d);
  return size;
}

Tensor empty_rows(const Tensor& values, int64_t rows) {
  std::vector<int64_t> sizes{rows};
  for (int64_t d = 1; d < values.dim(); ++d) sizes.push_back(values.size(d));
  return torch::stable::new_empty(values, torch::headeronly::IntHeaderOnlyArrayRef(sizes));
}

}  // namespace dtnn
