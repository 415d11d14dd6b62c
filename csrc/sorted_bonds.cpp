// SPDX-License-Identifier: MIT
#include "sorted_bonds.h"

#include <string>

namespace dtnn {

void check_pairs(const char* op, const Tensor& pairs, const char* other_name, const Tensor& other) {
  check_dtype(op, "pairs", pairs, ScalarType::Long);
  check_shape(op, "pairs", pairs, "[2, E]", {2, kAny});
  check_same_device(op, "pairs", pairs, other_name, other);
}

void check_shifts(const char* op, const Tensor& shifts, int64_t num_bonds, const char* other_name,
                  const Tensor& other) {
  check_dtype(op, "shifts", shifts, ScalarType::Int);
  const std::string wanted = "[E, 3] with E = " + std::to_string(num_bonds) + " as in `pairs`";
  check_shape(op, "shifts", shifts, wanted.c_str(), {num_bonds, 3});
  check_same_device(op, "shifts", shifts, other_name, other);
}

void check_row_ptr(const char* op, const Tensor& row_ptr, const char* other_name, const Tensor& other) {
  check_dtype(op, "row_ptr", row_ptr, ScalarType::Long);
  check_shape(op, "row_ptr", row_ptr, "[N+1]", {kAny});
  check_same_device(op, "row_ptr", row_ptr, other_name, other);
  DTNN_CHECK(row_ptr.size(0) >= 1, op, ": expected `row_ptr` of shape [N+1], got [0]");
}

SortedBonds check_sorted_bonds(const char* op, const Tensor& pairs, const Tensor& shifts, const Tensor& row_ptr,
                               const char* other_name, const Tensor& other) {
  check_pairs(op, pairs, other_name, other);
  check_shifts(op, shifts, pairs.size(1), other_name, other);
  check_row_ptr(op, row_ptr, other_name, other);
  return {torch::stable::contiguous(pairs), torch::stable::contiguous(shifts), torch::stable::contiguous(row_ptr)};
}

}  // namespace dtnn
