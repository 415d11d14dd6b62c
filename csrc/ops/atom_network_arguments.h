// SPDX-License-Identifier: MIT
// Checks of the arguments of the operations of atom_network.h.
#pragma once

#include <string>

#include "check_sizes.h"
#include "ops/atom_network_programs.h"
#include "optional_tensor.h"

namespace dtnn {

// The checks that all operations share.
struct Checker {
  const char* op;
  const Tensor& first;

  void like(const char* name, const Tensor& tensor) const {
    check_same_dtype(op, name, tensor, "scalar", first);
    check_same_device(op, name, tensor, "scalar", first);
  }
  // The size of the last dimension; kAny accepts every size.
  int64_t channels(const char* name, const Tensor& tensor, int64_t components, int64_t wanted) const {
    like(name, tensor);
    const std::string c = wanted == kAny ? "C" : std::to_string(wanted);
    const std::string shape = components == 1 ? "[N, " + c + "]" : "[N, " + std::to_string(components) + ", " + c + "]";
    const std::string text = shape + " with N = " + std::to_string(first.size(0)) + " as in `scalar`";
    if (components == 1) {
      check_shape(op, name, tensor, text.c_str(), {first.size(0), wanted});
    } else {
      check_shape(op, name, tensor, text.c_str(), {first.size(0), components, wanted});
    }
    return tensor.size(components == 1 ? 1 : 2);
  }
  Channels atoms(const Tensor& vector, const Tensor& rank2) const {
    check_floating(op, "scalar", first);
    check_shape(op, "scalar", first, "[N, S]", {kAny, kAny});
    DTNN_CHECK(first.size(1) >= 1, op, ": expected `scalar` of shape [N, S] with S of 1 or more, got ",
               describe_shape(first));
    const Channels c{first.size(1), channels("vector", vector, 3, kAny), channels("rank2", rank2, 6, kAny)};
    DTNN_CHECK(c.vector >= 1, op, ": expected `vector` with at least one channel, got ", describe_shape(vector));
    return c;
  }
  void weights(const Tensor& weights, const TileProgram& program, const char* name = "weights") const {
    like(name, weights);
    check_sizes(op, name, weights, "[P]", {program.num_weights()});
  }
  void optional(const char* name, const OptionalTensor& tensor, int64_t components, int64_t wanted) const {
    if (tensor.has_value()) channels(name, *tensor, components, wanted);
  }
  void grads(const OptionalTensor& scalar, const OptionalTensor& vector, const OptionalTensor& rank2,
             const Channels& c) const {
    optional("grad_scalar", scalar, 1, c.scalar);
    optional("grad_vector", vector, 3, c.vector);
    optional("grad_rank2", rank2, 6, c.rank2);
  }
};

inline Tensor dense(const Tensor& tensor) { return torch::stable::contiguous(tensor); }

inline Channels check_outputs(const char* op, int64_t scalar_out, int64_t vector_out, int64_t rank2_out,
                              const Tensor& weights) {
  const int64_t most = weights.defined() ? weights.numel() : 0;
  const auto fits = [&](int64_t count) { return count >= 1 && count <= most; };
  DTNN_CHECK(fits(scalar_out) && fits(vector_out) && fits(rank2_out), op,
             ": expected `scalar_out`, `vector_out` and `rank2_out` of 1 or more, for which there are weights, got ",
             scalar_out, ", ", vector_out, ", ", rank2_out);
  return {scalar_out, vector_out, rank2_out};
}

}  // namespace dtnn
