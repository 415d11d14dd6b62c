// SPDX-License-Identifier: MIT
#include "bond_ends.h"

#include <vector>

namespace dtnn {

BondEnds check_bond_ends(const char* op, const char* values_name, const Tensor& values, const Tensor& pairs,
                         const Tensor& row_ptr, const std::optional<Tensor>& neighbor_order,
                         const std::optional<Tensor>& neighbor_row_ptr, int64_t center, int64_t neighbor) {
  check_floating(op, values_name, values);
  DTNN_CHECK(values.dim() >= 1, op, ": expected `", values_name,
             "` with atoms or bonds as the first dimension, got a scalar");
  check_dtype(op, "pairs", pairs, ScalarType::Long);
  check_shape(op, "pairs", pairs, "[2, E]", {2, kAny});
  check_same_device(op, "pairs", pairs, values_name, values);
  check_dtype(op, "row_ptr", row_ptr, ScalarType::Long);
  check_shape(op, "row_ptr", row_ptr, "[N+1]", {kAny});
  check_same_device(op, "row_ptr", row_ptr, values_name, values);
  DTNN_CHECK(row_ptr.size(0) >= 1, op, ": expected `row_ptr` of shape [N+1], got [0]");
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
