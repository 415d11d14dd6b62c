// SPDX-License-Identifier: MIT
// Compiled with -ffp-contract=fast (CMakeLists.txt): the products become FMAs, which doubles the peak rate.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "core/matmul_tile.h"
#include "core/simd_level.h"
#include "core/small_matmul.h"

namespace dtnn {
namespace {

// A panel is two vectors wide.
template <typename T>
int64_t panel_width() {
  constexpr int64_t vectors = 2, element = sizeof(T);
  switch (simd_level()) {
    case SimdLevel::kAvx512:
      return vectors * 64 / element;
    case SimdLevel::kAvx2:
      return vectors * 32 / element;
    default:
      return vectors * 16 / element;
  }
}

template <typename T>
struct PackedJob {
  const T* a;
  const T* panels;
  T* out;
  int64_t rows;
  int64_t cols;
  int64_t depth;
};

// Some rows of the output, panel after panel: the rows of `a` stay in the first level of the cache.
template <typename T, int lanes, int rows>
DTNN_ALWAYS_INLINE void multiply_rows(const PackedJob<T>& job, int64_t i, Prefetch& ahead) {
  constexpr int64_t width = 2 * lanes;
  const TileLeft<T> left{job.a + i * job.depth, job.depth, 1};
  const T* panel = job.panels;
  T* out = job.out + i * job.cols;
  for (int64_t j = 0; j < job.cols; j += width, panel += width * job.depth) {
    ahead.advance();
    const int64_t cols = job.cols - j;
    if (cols > lanes) {
      Tile<T, lanes, rows, 2> tile;
      tile.add_product(left, panel, width, job.depth);
      if (cols >= width) {
        tile.store(out + j, job.cols, false);
      } else {
        tile.store_first_columns(out + j, job.cols, cols);
      }
    } else {
      Tile<T, lanes, rows, 1> tile;
      tile.add_product(left, panel, width, job.depth);
      tile.store_first_columns(out + j, job.cols, cols);
    }
  }
}

template <int bytes, int rows, typename T>
DTNN_ALWAYS_INLINE void multiply_all(const PackedJob<T>& job, Prefetch& ahead) {
  constexpr int lanes = bytes / static_cast<int>(sizeof(T));
  const int64_t panels = (job.cols + 2 * lanes - 1) / (2 * lanes);
  ahead.share_out(panels * (job.rows / rows));
  int64_t i = 0;
  for (; i + rows <= job.rows; i += rows) multiply_rows<T, lanes, rows>(job, i, ahead);
  for (; i + 4 <= job.rows; i += 4) multiply_rows<T, lanes, 4>(job, i, ahead);
  for (; i < job.rows; ++i) multiply_rows<T, lanes, 1>(job, i, ahead);
}

// 12 x 2 sums, two vectors of b and one of a in the 32 registers of AVX-512; 6 x 2 in 16 registers.
DTNN_SIMD_VERSIONS_OF(void, multiply_at_level, (multiply_all<64, 12>), (multiply_all<32, 6>), (multiply_all<16, 6>),
                      (const PackedJob<float>& job, Prefetch& ahead), (job, ahead))
DTNN_SIMD_VERSIONS_OF(void, multiply_at_level, (multiply_all<64, 12>), (multiply_all<32, 6>), (multiply_all<16, 6>),
                      (const PackedJob<double>& job, Prefetch& ahead), (job, ahead))

// Copies `b` [depth, width], whose columns are contiguous, into a panel: 4 x 4 numbers at a time, since single numbers
// take as long as the product of a small crystal. Returns the rows that are done.
int64_t transpose_panel(const float* b, int64_t col_stride, int64_t depth, int64_t width, float* panel) {
  typedef float Four __attribute__((vector_size(16)));
  const int64_t rows = depth / 4 * 4;
  for (int64_t k = 0; k < rows; k += 4) {
    for (int64_t j = 0; j < width; j += 4) {
      Four c[4];
      for (int64_t i = 0; i < 4; ++i) std::memcpy(&c[i], b + (j + i) * col_stride + k, sizeof(Four));
      const Four low01 = __builtin_shufflevector(c[0], c[1], 0, 4, 1, 5);
      const Four high01 = __builtin_shufflevector(c[0], c[1], 2, 6, 3, 7);
      const Four low23 = __builtin_shufflevector(c[2], c[3], 0, 4, 1, 5);
      const Four high23 = __builtin_shufflevector(c[2], c[3], 2, 6, 3, 7);
      const Four r[4] = {
          __builtin_shufflevector(low01, low23, 0, 1, 4, 5), __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
          __builtin_shufflevector(high01, high23, 0, 1, 4, 5), __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
      for (int64_t i = 0; i < 4; ++i) std::memcpy(panel + (k + i) * width + j, &r[i], sizeof(Four));
    }
  }
  return rows;
}
int64_t transpose_panel(const double*, int64_t, int64_t, int64_t, double*) { return 0; }

}  // namespace

template <typename T>
PackedMatrix<T>::PackedMatrix(const T* b, int64_t row_stride, int64_t col_stride, int64_t depth, int64_t cols,
                              [[maybe_unused]] bool in_bf16)
    : depth_(depth), cols_(cols) {
  if constexpr (std::is_same_v<T, float>) {
    if (in_bf16) {
      bf16_ = std::make_unique<Bf16Matrix>(b, row_stride, col_stride, depth, cols);
      return;
    }
  }
  constexpr int64_t line = 64 / sizeof(T);
  const int64_t width = panel_width<T>();
  const int64_t num_panels = (cols + width - 1) / width;
  storage_.reset(new T[num_panels * depth * width + line]);
  // Vectors that do not cross cache lines.
  const uintptr_t misaligned = reinterpret_cast<uintptr_t>(storage_.get()) % 64;
  data_ = storage_.get() + (misaligned == 0 ? 0 : (64 - misaligned) / sizeof(T));
  T* panel = data_;
  for (int64_t first = 0; first < cols; first += width, panel += depth * width) {
    const int64_t used = std::min(width, cols - first);
    const T* from = b + first * col_stride;
    if (col_stride == 1) {
      for (int64_t k = 0; k < depth; ++k) {
        std::copy_n(from + k * row_stride, used, panel + k * width);
        std::fill_n(panel + k * width + used, width - used, T(0));
      }
      continue;
    }
    const bool is_transposed = row_stride == 1 && used == width;
    const int64_t done = is_transposed ? transpose_panel(from, col_stride, depth, width, panel) : 0;
    for (int64_t j = 0; j < width; ++j) {
      for (int64_t k = done; k < depth; ++k) {
        panel[k * width + j] = j < used ? from[k * row_stride + j * col_stride] : T(0);
      }
    }
  }
}

template class PackedMatrix<float>;
template class PackedMatrix<double>;

void multiply(const float* a, const PackedMatrix<float>& b, float* out, int64_t rows, Prefetch& ahead) {
  if (b.bf16() != nullptr) return multiply(a, *b.bf16(), {}, out, rows, ahead);
  multiply_at_level(PackedJob<float>{a, b.panels(), out, rows, b.cols(), b.depth()}, ahead);
}
void multiply(const double* a, const PackedMatrix<double>& b, double* out, int64_t rows, Prefetch& ahead) {
  multiply_at_level(PackedJob<double>{a, b.panels(), out, rows, b.cols(), b.depth()}, ahead);
}

}  // namespace dtnn
