// SPDX-License-Identifier: MIT
#include "simd_scan.h"

#include <algorithm>
#include <cstring>

#include "core/simd_level.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define DTNN_X86_DISPATCH 1
#include <immintrin.h>
#endif

namespace dtnn {
namespace {

// The bits of the last word that belong to points.
inline uint64_t valid_bits(int64_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

// Sixteen keys in as many registers as they take.
typedef int32_t Lanes __attribute__((vector_size(64)));

// Ranks 32 keys at a time, in registers, against all.
inline __attribute__((always_inline)) void sort_by_counting(const int32_t* keys, int64_t count, int32_t* sorted) {
  for (int64_t first = 0; first < count; first += 32) {
    Lanes low, high, smaller_low{}, smaller_high{};
    std::memcpy(&low, keys + first, sizeof low);
    std::memcpy(&high, keys + first + 16, sizeof high);
    for (int64_t m = 0; m < count; ++m) {
      smaller_low -= keys[m] < low;  // true is -1
      smaller_high -= keys[m] < high;
    }
    int32_t rank[32];
    std::memcpy(rank, &smaller_low, sizeof smaller_low);
    std::memcpy(rank + 16, &smaller_high, sizeof smaller_high);
    const int64_t in_block = std::min<int64_t>(32, count - first);
    for (int64_t k = 0; k < in_block; ++k) sorted[rank[k]] = keys[first + k];
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

ScanResult collect_baseline(const ScanPoints& points, const ScanRun* runs, int64_t num_runs, const double center[3],
                            ScanRadii radii, int32_t* keys) {
  int64_t found = 0;
  bool between = false;
  for (int64_t r = 0; r < num_runs; ++r) {
    for (int64_t k = runs[r].first; k < runs[r].first + runs[r].count; ++k) {
      const double dx = points.x[k] - center[0], dy = points.y[k] - center[1], dz = points.z[k] - center[2];
      const double squared = dx * dx + dy * dy + dz * dz;
      const bool outer = squared < radii.outer_squared;
      between |= outer & !(squared < radii.inner_squared);
      keys[found] = points.key[k];
      found += outer;
    }
  }
  return {found, between};
}

void sort_baseline(const int32_t* keys, int64_t count, int32_t* sorted) { sort_by_counting(keys, count, sorted); }

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

// For each mask of four lanes, the bytes that move the chosen 32-bit lanes to the front.
struct PackTable {
  alignas(16) int8_t bytes[16][16];
  constexpr PackTable() : bytes() {
    for (int mask = 0; mask < 16; ++mask) {
      int to = 0;
      for (int lane = 0; lane < 4; ++lane)
        if (mask >> lane & 1)
          for (int byte = 0; byte < 4; ++byte) bytes[mask][to++] = static_cast<int8_t>(4 * lane + byte);
      while (to < 16) bytes[mask][to++] = -1;
    }
  }
};
constexpr PackTable kPack;

__attribute__((target("avx2,popcnt"))) ScanResult collect_avx2(const ScanPoints& points, const ScanRun* runs,
                                                               int64_t num_runs, const double center[3],
                                                               ScanRadii radii, int32_t* keys) {
  const __m256d cx = _mm256_set1_pd(center[0]), cy = _mm256_set1_pd(center[1]), cz = _mm256_set1_pd(center[2]);
  const __m256d inner = _mm256_set1_pd(radii.inner_squared), outer = _mm256_set1_pd(radii.outer_squared);
  int32_t* out = keys;
  unsigned between = 0;
  for (int64_t r = 0; r < num_runs; ++r) {
    const int64_t end = runs[r].first + runs[r].count;
    for (int64_t k = runs[r].first; k < end; k += 4) {
      const __m256d dx = _mm256_sub_pd(_mm256_loadu_pd(points.x + k), cx);
      const __m256d dy = _mm256_sub_pd(_mm256_loadu_pd(points.y + k), cy);
      const __m256d dz = _mm256_sub_pd(_mm256_loadu_pd(points.z + k), cz);
      const __m256d squared =
          _mm256_add_pd(_mm256_add_pd(_mm256_mul_pd(dx, dx), _mm256_mul_pd(dy, dy)), _mm256_mul_pd(dz, dz));
      const unsigned valid = end - k >= 4 ? 15 : (1u << (end - k)) - 1;
      const unsigned in_outer =
          valid & static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(squared, outer, _CMP_LT_OQ)));
      between |= in_outer & ~static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(squared, inner, _CMP_LT_OQ)));
      const __m128i packed = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(points.key + k)),
                                              _mm_load_si128(reinterpret_cast<const __m128i*>(kPack.bytes[in_outer])));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), packed);
      out += __builtin_popcount(in_outer);
    }
  }
  return {out - keys, between != 0};
}

__attribute__((target("avx2"))) void sort_avx2(const int32_t* keys, int64_t count, int32_t* sorted) {
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

__attribute__((target("avx512f,avx512vl,popcnt"))) ScanResult collect_avx512(const ScanPoints& points,
                                                                             const ScanRun* runs, int64_t num_runs,
                                                                             const double center[3], ScanRadii radii,
                                                                             int32_t* keys) {
  const __m512d cx = _mm512_set1_pd(center[0]), cy = _mm512_set1_pd(center[1]), cz = _mm512_set1_pd(center[2]);
  const __m512d inner = _mm512_set1_pd(radii.inner_squared), outer = _mm512_set1_pd(radii.outer_squared);
  int32_t* out = keys;
  unsigned between = 0;
  for (int64_t r = 0; r < num_runs; ++r) {
    const int64_t end = runs[r].first + runs[r].count;
    for (int64_t k = runs[r].first; k < end; k += 8) {
      const __m512d dx = _mm512_sub_pd(_mm512_loadu_pd(points.x + k), cx);
      const __m512d dy = _mm512_sub_pd(_mm512_loadu_pd(points.y + k), cy);
      const __m512d dz = _mm512_sub_pd(_mm512_loadu_pd(points.z + k), cz);
      const __m512d squared =
          _mm512_add_pd(_mm512_add_pd(_mm512_mul_pd(dx, dx), _mm512_mul_pd(dy, dy)), _mm512_mul_pd(dz, dz));
      const __mmask8 valid = static_cast<__mmask8>(end - k >= 8 ? 255 : (1u << (end - k)) - 1);
      const __mmask8 in_outer = _mm512_mask_cmp_pd_mask(valid, squared, outer, _CMP_LT_OQ);
      between |= _mm512_mask_cmp_pd_mask(in_outer, squared, inner, _CMP_NLT_UQ);
      const __m256i packed =
          _mm256_maskz_compress_epi32(in_outer, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(points.key + k)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), packed);
      out += __builtin_popcount(in_outer);
    }
  }
  return {out - keys, between != 0};
}

__attribute__((target("avx512f"))) void sort_avx512(const int32_t* keys, int64_t count, int32_t* sorted) {
  sort_by_counting(keys, count, sorted);
}

#endif

ScanKernels choose() {
#ifdef DTNN_X86_DISPATCH
  if (simd_level() == SimdLevel::kAvx512) return {scan_avx512, collect_avx512, sort_avx512, "avx512"};
  if (simd_level() == SimdLevel::kAvx2) return {scan_avx2, collect_avx2, sort_avx2, "avx2"};
#endif
  return {scan_baseline, collect_baseline, sort_baseline, "baseline"};
}

}  // namespace

const ScanKernels& scan_kernels() {
  static const ScanKernels kernels = choose();
  return kernels;
}

}  // namespace dtnn
