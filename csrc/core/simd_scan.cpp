// SPDX-License-Identifier: MIT
#include "simd_scan.h"

#include <algorithm>

#include "core/simd_level.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define DTNN_X86_DISPATCH 1
#include <immintrin.h>
#endif

namespace dtnn {
namespace {

// The bits of a last, partial word that stand for real points.
inline uint64_t valid_bits(int64_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

inline __attribute__((always_inline)) void sort_by_counting(const int64_t* keys, int64_t count, int64_t* sorted) {
  for (int64_t k = 0; k < count; ++k) {
    const int64_t key = keys[k];
    int64_t smaller = 0;
    for (int64_t m = 0; m < count; ++m) smaller += keys[m] < key;
    sorted[smaller] = key;
  }
}

bool scan_baseline(const double* x, const double* y, const double* z, int64_t num_points, const double center[3],
                   ScanRadii radii, uint64_t* bits) {
  bool between = false;
  for (int64_t base = 0; base < num_points; base += 64) {
    const int64_t count = std::min<int64_t>(64, num_points - base);
    uint64_t word = 0;
    for (int64_t k = 0; k < count; ++k) {
      const double dx = x[base + k] - center[0], dy = y[base + k] - center[1], dz = z[base + k] - center[2];
      const double squared = dx * dx + dy * dy + dz * dz;
      const bool outer = squared < radii.outer_squared;
      word |= static_cast<uint64_t>(outer) << k;
      between |= outer & !(squared < radii.inner_squared);
    }
    bits[base / 64] = word;
  }
  return between;
}

void sort_baseline(const int64_t* keys, int64_t count, int64_t* sorted) { sort_by_counting(keys, count, sorted); }

#ifdef DTNN_X86_DISPATCH

__attribute__((target("avx2"))) bool scan_avx2(const double* x, const double* y, const double* z, int64_t num_points,
                                               const double center[3], ScanRadii radii, uint64_t* bits) {
  const __m256d cx = _mm256_set1_pd(center[0]), cy = _mm256_set1_pd(center[1]), cz = _mm256_set1_pd(center[2]);
  const __m256d inner = _mm256_set1_pd(radii.inner_squared), outer = _mm256_set1_pd(radii.outer_squared);
  __m256d between = _mm256_setzero_pd();
  for (int64_t base = 0; base < num_points; base += 64) {
    const int64_t count = std::min<int64_t>(64, num_points - base);
    uint64_t word = 0;
    for (int64_t k = 0; k < count; k += 4) {
      const __m256d dx = _mm256_sub_pd(_mm256_loadu_pd(x + base + k), cx);
      const __m256d dy = _mm256_sub_pd(_mm256_loadu_pd(y + base + k), cy);
      const __m256d dz = _mm256_sub_pd(_mm256_loadu_pd(z + base + k), cz);
      const __m256d squared =
          _mm256_add_pd(_mm256_add_pd(_mm256_mul_pd(dx, dx), _mm256_mul_pd(dy, dy)), _mm256_mul_pd(dz, dz));
      const __m256d in_outer = _mm256_cmp_pd(squared, outer, _CMP_LT_OQ);
      const __m256d in_inner = _mm256_cmp_pd(squared, inner, _CMP_LT_OQ);
      between = _mm256_or_pd(between, _mm256_andnot_pd(in_inner, in_outer));
      word |= static_cast<uint64_t>(_mm256_movemask_pd(in_outer)) << k;
    }
    bits[base / 64] = word & valid_bits(count);
  }
  return _mm256_movemask_pd(between) != 0;
}

__attribute__((target("avx2"))) void sort_avx2(const int64_t* keys, int64_t count, int64_t* sorted) {
  sort_by_counting(keys, count, sorted);
}

__attribute__((target("avx512f"))) bool scan_avx512(const double* x, const double* y, const double* z,
                                                    int64_t num_points, const double center[3], ScanRadii radii,
                                                    uint64_t* bits) {
  const __m512d cx = _mm512_set1_pd(center[0]), cy = _mm512_set1_pd(center[1]), cz = _mm512_set1_pd(center[2]);
  const __m512d inner = _mm512_set1_pd(radii.inner_squared), outer = _mm512_set1_pd(radii.outer_squared);
  unsigned between = 0;
  for (int64_t base = 0; base < num_points; base += 64) {
    const int64_t count = std::min<int64_t>(64, num_points - base);
    uint64_t word = 0;
    for (int64_t k = 0; k < count; k += 8) {
      const __m512d dx = _mm512_sub_pd(_mm512_loadu_pd(x + base + k), cx);
      const __m512d dy = _mm512_sub_pd(_mm512_loadu_pd(y + base + k), cy);
      const __m512d dz = _mm512_sub_pd(_mm512_loadu_pd(z + base + k), cz);
      const __m512d squared =
          _mm512_add_pd(_mm512_add_pd(_mm512_mul_pd(dx, dx), _mm512_mul_pd(dy, dy)), _mm512_mul_pd(dz, dz));
      const unsigned in_outer = _mm512_cmp_pd_mask(squared, outer, _CMP_LT_OQ);
      between |= in_outer ^ _mm512_mask_cmp_pd_mask(in_outer, squared, inner, _CMP_LT_OQ);
      word |= static_cast<uint64_t>(in_outer) << k;
    }
    bits[base / 64] = word & valid_bits(count);
  }
  return between != 0;
}

__attribute__((target("avx512f,avx512dq"))) void sort_avx512(const int64_t* keys, int64_t count, int64_t* sorted) {
  for (int64_t k = 0; k < count; ++k) {
    const __m512i key = _mm512_set1_epi64(keys[k]);
    int smaller = 0;
    int64_t m = 0;
    for (; m + 8 <= count; m += 8)
      smaller += __builtin_popcount(_mm512_cmplt_epi64_mask(_mm512_loadu_si512(keys + m), key));
    if (m < count) {
      const __mmask8 rest = static_cast<__mmask8>((1u << (count - m)) - 1);
      smaller += __builtin_popcount(_mm512_mask_cmplt_epi64_mask(rest, _mm512_maskz_loadu_epi64(rest, keys + m), key));
    }
    sorted[smaller] = keys[k];
  }
}

#endif

ScanKernels choose() {
#ifdef DTNN_X86_DISPATCH
  if (simd_level() == SimdLevel::kAvx512) return {scan_avx512, sort_avx512, "avx512"};
  if (simd_level() == SimdLevel::kAvx2) return {scan_avx2, sort_avx2, "avx2"};
#endif
  return {scan_baseline, sort_baseline, "baseline"};
}

}  // namespace

const ScanKernels& scan_kernels() {
  static const ScanKernels kernels = choose();
  return kernels;
}

}  // namespace dtnn
