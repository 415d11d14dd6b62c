// SPDX-License-Identifier: MIT
// Compiled with -ffp-contract=fast (CMakeLists.txt): the products become FMAs, which doubles the peak rate.
#include "core/small_matmul.h"

#include <cstring>

#include "core/cpu_clones.h"

namespace dtnn {
namespace {

// A vector of `lanes` numbers; a plain number for one lane.
template <typename T, int lanes>
struct Vector {
  typedef T type __attribute__((vector_size(lanes * sizeof(T))));
};
template <typename T>
struct Vector<T, 1> {
  typedef T type;
};

// The tile of `rows` x (vectors * lanes) elements of the output at (i, j), kept in registers over the whole depth.
template <typename T, int lanes, int rows, int vectors>
DTNN_ALWAYS_INLINE void multiply_tile(const SmallMatmul<T>& job, int64_t i, int64_t j) {
  using V = typename Vector<T, lanes>::type;
  V sums[rows][vectors] = {};
  const T* a = job.a + i * job.a_row_stride;
  const T* b = job.b + j;
  for (int64_t k = 0; k < job.depth; ++k, a += job.a_depth_stride, b += job.b_row_stride) {
    V b_row[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) std::memcpy(&b_row[v], b + v * lanes, sizeof(V));
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const T factor = a[r * job.a_row_stride];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[r][v] += factor * b_row[v];
    }
  }
  T* out = job.out + i * job.out_row_stride + j;
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r, out += job.out_row_stride) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      V sum = sums[r][v];
      if (job.accumulate) {
        V before;
        std::memcpy(&before, out + v * lanes, sizeof(V));
        sum += before;
      }
      std::memcpy(out + v * lanes, &sum, sizeof(V));
    }
  }
}

// All rows of a panel of columns.
template <typename T, int lanes, int rows, int vectors>
DTNN_ALWAYS_INLINE void multiply_panel(const SmallMatmul<T>& job, int64_t j) {
  int64_t i = 0;
  for (; i + rows <= job.rows; i += rows) multiply_tile<T, lanes, rows, vectors>(job, i, j);
  for (; i < job.rows; ++i) multiply_tile<T, lanes, 1, vectors>(job, i, j);
}

// Panels as wide as they come, then narrower ones for the last columns. rows * 2 accumulators fill the registers.
template <typename T, int lanes, int rows>
DTNN_ALWAYS_INLINE void multiply_all(const SmallMatmul<T>& job) {
  int64_t j = 0;
  for (; j + 2 * lanes <= job.cols; j += 2 * lanes) multiply_panel<T, lanes, rows, 2>(job, j);
  for (; j + lanes <= job.cols; j += lanes) multiply_panel<T, lanes, rows, 1>(job, j);
  constexpr int narrow = lanes > 4 ? lanes / 4 : 1;
  for (; j + narrow <= job.cols; j += narrow) multiply_panel<T, narrow, rows, 1>(job, j);
  for (; j < job.cols; ++j) multiply_panel<T, 1, rows, 1>(job, j);
}

#if defined(__x86_64__) && defined(__GNUC__)
// Tiles are sized for the registers of each instruction set, so the machine is asked here and not by the loader.
__attribute__((target("arch=x86-64-v4"))) void multiply_avx512(const SmallMatmul<float>& job) {
  multiply_all<float, 16, 8>(job);
}
__attribute__((target("arch=x86-64-v4"))) void multiply_avx512(const SmallMatmul<double>& job) {
  multiply_all<double, 8, 8>(job);
}
__attribute__((target("arch=x86-64-v3"))) void multiply_avx2(const SmallMatmul<float>& job) {
  multiply_all<float, 8, 4>(job);
}
__attribute__((target("arch=x86-64-v3"))) void multiply_avx2(const SmallMatmul<double>& job) {
  multiply_all<double, 4, 4>(job);
}
#endif

template <typename T>
void multiply_with_best(const SmallMatmul<T>& job) {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool has_avx512 = __builtin_cpu_supports("x86-64-v4");
  static const bool has_avx2 = __builtin_cpu_supports("x86-64-v3");
  if (has_avx512) return multiply_avx512(job);
  if (has_avx2) return multiply_avx2(job);
#endif
  multiply_all<T, 16 / static_cast<int>(sizeof(T)), 4>(job);
}

}  // namespace

void multiply(const SmallMatmul<float>& job) { multiply_with_best(job); }
void multiply(const SmallMatmul<double>& job) { multiply_with_best(job); }

}  // namespace dtnn
