// SPDX-License-Identifier: MIT
#include "ops/bond_geometry.h"

#include <cmath>
#include <tuple>

#include "check_sizes.h"
#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"  // DTNN_CUDA_KEY
#endif

namespace dtnn {
namespace {

void check(const char* op, const Tensor& vectors, double cutoff, int64_t num_radial) {
  check_floating(op, "vectors", vectors);
  check_shape(op, "vectors", vectors, "[E, 3]", {kAny, 3});
  DTNN_CHECK(cutoff > 0 && std::isfinite(cutoff), op, ": expected a finite `cutoff` above 0, got ", cutoff);
  constexpr int64_t most = int64_t{1} << 20;
  DTNN_CHECK(num_radial >= 0 && num_radial <= most, op, ": expected `num_radial` from 0 to ", most, ", got ",
             num_radial);
}

void check_grad(const char* op, const char* name, const OptionalTensor& grad, const char* letters,
                std::initializer_list<int64_t> sizes, const Tensor& vectors) {
  if (!grad.has_value()) return;
  check_same_dtype(op, name, *grad, "vectors", vectors);
  check_same_device(op, name, *grad, "vectors", vectors);
  check_sizes(op, name, *grad, letters, sizes);
}

// The same, contiguous.
BondGeometryGrads check_grads(const char* op, const BondGeometryGrads& grads, const Tensor& vectors,
                              int64_t num_radial) {
  const int64_t bonds = vectors.size(0);
  check_grad(op, "grad_length", grads.length, "[E]", {bonds}, vectors);
  check_grad(op, "grad_direction", grads.direction, "[E, 3]", {bonds, 3}, vectors);
  check_grad(op, "grad_envelope", grads.envelope, "[E]", {bonds}, vectors);
  check_grad(op, "grad_radial", grads.radial, "[E, R]", {bonds, num_radial}, vectors);
  return {contiguous(grads.length), contiguous(grads.direction), contiguous(grads.envelope), contiguous(grads.radial)};
}

BondGeometryOut empty_results(const Tensor& vectors, int64_t num_radial) {
  const int64_t bonds = vectors.size(0);
  return {torch::stable::new_empty(vectors, {bonds}), torch::stable::new_empty(vectors, {bonds, 3}),
          torch::stable::new_empty(vectors, {bonds}), torch::stable::new_empty(vectors, {bonds, num_radial})};
}

using Forward = void (*)(const Tensor&, double, int64_t, BondGeometryOut&);
using Backward = void (*)(const Tensor&, double, int64_t, const BondGeometryGrads&, Tensor&);

// The operation on one device.
template <Forward kernel>
std::tuple<Tensor, Tensor, Tensor, Tensor> geometry_on(const Tensor& vectors, double cutoff, int64_t num_radial) {
  check("bond_geometry", vectors, cutoff, num_radial);
  BondGeometryOut out = empty_results(vectors, num_radial);
  kernel(torch::stable::contiguous(vectors), cutoff, num_radial, out);
  return {out.length, out.direction, out.envelope, out.radial};
}

template <Backward kernel>
Tensor backward_on(const OptionalTensor& grad_length, const OptionalTensor& grad_direction,
                   const OptionalTensor& grad_envelope, const OptionalTensor& grad_radial, const Tensor& vectors,
                   double cutoff, int64_t num_radial, bool need_vectors) {
  const char* op = "bond_geometry_backward";
  check(op, vectors, cutoff, num_radial);
  const int64_t bonds = vectors.size(0);
  const BondGeometryGrads grads =
      check_grads(op, {grad_length, grad_direction, grad_envelope, grad_radial}, vectors, num_radial);
  if (!need_vectors) return torch::stable::new_empty(vectors, {0});
  Tensor grad_vectors = torch::stable::new_empty(vectors, {bonds, 3});
  kernel(torch::stable::contiguous(vectors), cutoff, num_radial, grads, grad_vectors);
  return grad_vectors;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> double_backward_on_cpu(
    const OptionalTensor& change_vectors, const OptionalTensor& grad_length, const OptionalTensor& grad_direction,
    const OptionalTensor& grad_envelope, const OptionalTensor& grad_radial, const Tensor& vectors, double cutoff,
    int64_t num_radial, bool need_vectors) {
  const char* op = "bond_geometry_double_backward";
  check(op, vectors, cutoff, num_radial);
  const BondGeometryGrads grads =
      check_grads(op, {grad_length, grad_direction, grad_envelope, grad_radial}, vectors, num_radial);
  const int64_t bonds = vectors.size(0);
  check_grad(op, "change_vectors", change_vectors, "[E, 3]", {bonds, 3}, vectors);
  const auto zeros = [&vectors] {
    Tensor result = torch::stable::empty_like(vectors);
    return torch::stable::zero_(result);
  };
  BondGeometryOut changes = empty_results(vectors, num_radial);
  Tensor grad_vectors = torch::stable::new_empty(vectors, {need_vectors ? bonds : 0, 3});
  bond_geometry_double_backward_cpu(torch::stable::contiguous(change_vectors.has_value() ? *change_vectors : zeros()),
                                    torch::stable::contiguous(vectors), cutoff, num_radial, grads, changes,
                                    need_vectors ? &grad_vectors : nullptr);
  if (!need_vectors) grad_vectors = torch::stable::new_empty(vectors, {0});
  return {changes.length, changes.direction, changes.envelope, changes.radial, grad_vectors};
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def("bond_geometry(Tensor vectors, float cutoff, int num_radial) -> (Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "bond_geometry_backward(Tensor? grad_length, Tensor? grad_direction, Tensor? grad_envelope, "
      "Tensor? grad_radial, Tensor vectors, float cutoff, int num_radial, bool need_vectors=True) -> Tensor");
  library.def(
      "bond_geometry_double_backward(Tensor? change_vectors, Tensor? grad_length, Tensor? grad_direction, "
      "Tensor? grad_envelope, Tensor? grad_radial, Tensor vectors, float cutoff, int num_radial, "
      "bool need_vectors=True) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("bond_geometry", TORCH_BOX(&dtnn::geometry_on<dtnn::bond_geometry_cpu>));
  library.impl("bond_geometry_backward", TORCH_BOX(&dtnn::backward_on<dtnn::bond_geometry_backward_cpu>));
}
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("bond_geometry", TORCH_BOX(&dtnn::geometry_on<dtnn::bond_geometry_cuda>));
  library.impl("bond_geometry_backward", TORCH_BOX(&dtnn::backward_on<dtnn::bond_geometry_backward_cuda>));
}
#endif
// On CUDA torch's operations compute it (dtnn_fast/ops/_double_backward.py); the emulation of CUDA runs this.
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("bond_geometry_double_backward", TORCH_BOX(&dtnn::double_backward_on_cpu));
}
