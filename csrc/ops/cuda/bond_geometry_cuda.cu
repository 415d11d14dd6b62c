// SPDX-License-Identifier: MIT
// A thread for each bond. The radial functions follow from sine and cosine of the first by rotation, as on the CPU.
#include "bond_geometry.h"
#include "gpu.h"

namespace dtnn::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr double kPi = 3.14159265358979323846;

// sin and cos of k pi length / cutoff, from k = 1 on. By sincospi, which needs no memory for large arguments.
template <typename T>
struct Waves {
  T wave, sin1, cos1, sine, cosine;

  __device__ __forceinline__ Waves(T length, T cutoff) : wave(static_cast<T>(kPi) / cutoff) {
#ifdef DTNN_EMULATE_CUDA
    sin1 = sin(wave * length);
    cos1 = cos(wave * length);
#else
    sincospi(length / cutoff, &sin1, &cos1);
#endif
    sine = sin1;
    cosine = cos1;
  }
  __device__ __forceinline__ void next() {
    const T rotated = sine * cos1 + cosine * sin1;
    cosine = cosine * cos1 - sine * sin1;
    sine = rotated;
  }
};

template <typename T>
__global__ void __launch_bounds__(kThreads) fill_geometry(BondGeometryArgs<T> args, BondGeometryResults<T> out) {
  const T factor = sqrt(T(2) / args.cutoff);
  for (int64_t bond = int64_t{blockIdx.x} * kThreads + threadIdx.x; bond < args.num_bonds;
       bond += int64_t{gridDim.x} * kThreads) {
    const T* const v = args.vectors + 3 * bond;
    const T r[3] = {v[0], v[1], v[2]};
    const T length = sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    out.length[bond] = length;
#pragma unroll
    for (int k = 0; k < 3; ++k) out.direction[3 * bond + k] = r[k] / length;
    const T ratio = length / args.cutoff;
    const T x = ratio < T(1) || ratio != ratio ? ratio : T(1);
    const T x6 = (x * x) * (x * x) * (x * x);
    out.envelope[bond] = T(1) + x6 * (T(-28) + x * (T(48) - T(21) * x));
    const T scale = factor / length;
    Waves<T> waves(length, args.cutoff);
    T* const radial = out.radial + bond * args.num_radial;
    for (int64_t k = 0; k < args.num_radial; ++k, waves.next()) radial[k] = scale * waves.sine;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    fill_vector_grads(BondGeometryArgs<T> args, BondGeometryResultGrads<T> grads, T* grad_vectors) {
  const T factor = sqrt(T(2) / args.cutoff);
  for (int64_t bond = int64_t{blockIdx.x} * kThreads + threadIdx.x; bond < args.num_bonds;
       bond += int64_t{gridDim.x} * kThreads) {
    const T* const v = args.vectors + 3 * bond;
    const T r[3] = {v[0], v[1], v[2]};
    const T length = sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]), inverse = T(1) / length;
    T along = grads.length == nullptr ? T(0) : grads.length[bond];  // the gradient of the length
    if (grads.envelope != nullptr) {
      const T x = length / args.cutoff, x2 = x * x, left = T(1) - x;
      if (!(x >= T(1))) along += grads.envelope[bond] * (T(-168) * x2 * x2 * x * left * left / args.cutoff);
    }
    if (grads.radial != nullptr) {
      const T scale = factor * inverse;
      Waves<T> waves(length, args.cutoff);
      const T* const radial = grads.radial + bond * args.num_radial;
      for (int64_t k = 0; k < args.num_radial; ++k, waves.next()) {
        const T slope = scale * (static_cast<T>(k + 1) * waves.wave * waves.cosine - waves.sine * inverse);
        along += radial[k] * slope;
      }
    }
    T g[3] = {};
    if (grads.direction != nullptr) {
#pragma unroll
      for (int k = 0; k < 3; ++k) g[k] = grads.direction[3 * bond + k];
    }
    const T u[3] = {r[0] / length, r[1] / length, r[2] / length};
    const T radial_part = u[0] * g[0] + u[1] * g[1] + u[2] * g[2];
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      grad_vectors[3 * bond + k] = u[k] * along + (g[k] - u[k] * radial_part) * inverse;
    }
  }
}

unsigned num_blocks(int64_t bonds) { return grid_size((bonds + kThreads - 1) / kThreads); }

}  // namespace

template <typename T>
const char* launch_bond_geometry(const BondGeometryArgs<T>& args, const BondGeometryResults<T>& results, void* stream) {
  if (args.num_bonds == 0) return nullptr;
  DTNN_LAUNCH(fill_geometry<T>, num_blocks(args.num_bonds), kThreads, 0, stream, args, results);
  return launch_error();
}

template <typename T>
const char* launch_bond_geometry_backward(const BondGeometryArgs<T>& args, const BondGeometryResultGrads<T>& grads,
                                          T* grad_vectors, void* stream) {
  if (args.num_bonds == 0) return nullptr;
  DTNN_LAUNCH(fill_vector_grads<T>, num_blocks(args.num_bonds), kThreads, 0, stream, args, grads, grad_vectors);
  return launch_error();
}

template const char* launch_bond_geometry<float>(const BondGeometryArgs<float>&, const BondGeometryResults<float>&,
                                                 void*);
template const char* launch_bond_geometry<double>(const BondGeometryArgs<double>&, const BondGeometryResults<double>&,
                                                  void*);
template const char* launch_bond_geometry_backward<float>(const BondGeometryArgs<float>&,
                                                          const BondGeometryResultGrads<float>&, float*, void*);
template const char* launch_bond_geometry_backward<double>(const BondGeometryArgs<double>&,
                                                           const BondGeometryResultGrads<double>&, double*, void*);

}  // namespace dtnn::cuda
