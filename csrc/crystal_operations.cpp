// SPDX-License-Identifier: MIT
#include "crystal_operations.h"

namespace dtnn {

Tensor on_cpu(const Tensor& tensor) {
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  return torch::stable::contiguous(tensor.is_cuda() ? torch::stable::to(tensor, cpu) : tensor);
}

CrystalOperations check_crystal_operations(const char* op, const Tensor& positions, const Tensor& cell,
                                           const Tensor& ptr, const Tensor& rotations, const Tensor& operation_ptr) {
  check_dtype(op, "positions", positions, ScalarType::Double);
  check_shape(op, "positions", positions, "[N, 3]", {kAny, 3});
  const auto check = [&](const char* name, const Tensor& tensor, ScalarType type) {
    check_dtype(op, name, tensor, type);
    check_same_device(op, name, tensor, "positions", positions);
  };
  check("cell", cell, ScalarType::Double);
  check_shape(op, "cell", cell, "[B, 3, 3]", {kAny, 3, 3});
  check("ptr", ptr, ScalarType::Long);
  const int64_t num_crystals = cell.size(0);
  const std::string wanted = "[B+1] with B = " + std::to_string(num_crystals) + " crystals";
  check_shape(op, "ptr", ptr, wanted.c_str(), {num_crystals + 1});
  check("rotations", rotations, ScalarType::Int);
  check_shape(op, "rotations", rotations, "[G, 3, 3]", {kAny, 3, 3});
  check("operation_ptr", operation_ptr, ScalarType::Long);
  check_shape(op, "operation_ptr", operation_ptr, wanted.c_str(), {num_crystals + 1});
  return {on_cpu(positions), on_cpu(cell), on_cpu(ptr), on_cpu(rotations), on_cpu(operation_ptr)};
}

namespace {

std::vector<int64_t> segments(const char* op, const char* name, const char* of, const Tensor& ptr, int64_t total) {
  const int64_t* values = ptr.const_data_ptr<int64_t>();
  const int64_t count = ptr.size(0) - 1;
  DTNN_CHECK(values[0] == 0 && values[count] == total, op, ": expected `", name, "` from 0 to the number of ", of, ", ",
             total, ", got ", values[0], " to ", values[count]);
  for (int64_t b = 0; b < count; ++b)
    DTNN_CHECK(values[b] < values[b + 1], op, ": expected `", name, "` that rises, so that each crystal has ", of,
               ", got ", values[b], " before ", values[b + 1], " at crystal ", b);
  return {values, values + count + 1};
}

}  // namespace

OperationOffsets operation_offsets(const char* op, const CrystalOperations& crystals) {
  OperationOffsets offsets{
      segments(op, "ptr", "atoms", crystals.ptr, crystals.num_atoms()),
      segments(op, "operation_ptr", "operations", crystals.operation_ptr, crystals.num_operations()),
      {0}};
  for (int64_t b = 0; b < crystals.num_crystals(); ++b)
    offsets.image.push_back(offsets.image[b] + (offsets.atom[b + 1] - offsets.atom[b]) *
                                                   (offsets.operation[b + 1] - offsets.operation[b]));
  return offsets;
}

}  // namespace dtnn
