// SPDX-License-Identifier: MIT
// bond_geometry and its backward on CUDA.
#ifdef DTNN_WITH_CUDA

#include "cuda_stream.h"
#include "ops/bond_geometry.h"
#include "ops/cuda/bond_geometry.h"

namespace dtnn {
namespace {

template <typename T>
cuda::BondGeometryArgs<T> arguments_of(const Tensor& vectors, double cutoff, int64_t num_radial) {
  return {vectors.const_data_ptr<T>(), static_cast<T>(cutoff), vectors.size(0), num_radial};
}

template <typename T>
void forward(const Tensor& vectors, double cutoff, int64_t num_radial, BondGeometryOut& out) {
  const char* op = "bond_geometry";
  const OnDeviceOf device(vectors);
  void* const stream = current_cuda_stream(op, vectors);
  const cuda::BondGeometryResults<T> results{out.length.mutable_data_ptr<T>(), out.direction.mutable_data_ptr<T>(),
                                             out.envelope.mutable_data_ptr<T>(), out.radial.mutable_data_ptr<T>()};
  check_launch(op, cuda::launch_bond_geometry<T>(arguments_of<T>(vectors, cutoff, num_radial), results, stream));
}

template <typename T>
void backward(const Tensor& vectors, double cutoff, int64_t num_radial, const BondGeometryGrads& grads,
              Tensor& grad_vectors) {
  const char* op = "bond_geometry_backward";
  const OnDeviceOf device(vectors);
  void* const stream = current_cuda_stream(op, vectors);
  const cuda::BondGeometryResultGrads<T> given{data_or_null<T>(grads.length), data_or_null<T>(grads.direction),
                                               data_or_null<T>(grads.envelope), data_or_null<T>(grads.radial)};
  T* const out = grad_vectors.mutable_data_ptr<T>();
  check_launch(
      op, cuda::launch_bond_geometry_backward<T>(arguments_of<T>(vectors, cutoff, num_radial), given, out, stream));
}

}  // namespace

void bond_geometry_cuda(const Tensor& vectors, double cutoff, int64_t num_radial, BondGeometryOut& out) {
  if (vectors.scalar_type() == ScalarType::Float) return forward<float>(vectors, cutoff, num_radial, out);
  return forward<double>(vectors, cutoff, num_radial, out);
}

void bond_geometry_backward_cuda(const Tensor& vectors, double cutoff, int64_t num_radial,
                                 const BondGeometryGrads& grads, Tensor& grad_vectors) {
  if (vectors.scalar_type() == ScalarType::Float) {
    return backward<float>(vectors, cutoff, num_radial, grads, grad_vectors);
  }
  return backward<double>(vectors, cutoff, num_radial, grads, grad_vectors);
}

}  // namespace dtnn
#endif
