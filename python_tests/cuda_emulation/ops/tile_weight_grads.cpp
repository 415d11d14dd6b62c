// SPDX-License-Identifier: MIT
// Sums over groups of rows, of products that NumPy can check: small integers.
#include "cases.h"
#include "tile_backward.h"

namespace {

using dtnn::cuda::TileWeightItem;

// sums [members, depth * channels + channels] = x^T grad and the columns' sums of grad, of rows
// first_row..first_row + rows. x [all_rows, depth] is shared by the members, grad [members, rows, channels] begins at
// first_row. Twice, so that the second call adds to the first.
template <typename T>
const char* run(const T* x, const T* grad, T* sums, int64_t first_row, int64_t rows, int64_t depth, int64_t channels,
                int64_t members, int64_t groups) {
  std::vector<TileWeightItem> items;
  for (int64_t d = 0; d < std::max<int64_t>(1, depth); d += dtnn::cuda::kWeightTile) {
    for (int64_t c = 0; c < channels; c += dtnn::cuda::kWeightTile) {
      items.push_back({x, grad, 0, rows * channels, d * channels + c, d == 0 ? depth * channels + c : -1, 0, 1, 1,
                       static_cast<int32_t>(depth), static_cast<int32_t>(channels), static_cast<int32_t>(channels),
                       static_cast<int32_t>(d), static_cast<int32_t>(c)});
    }
  }
  const int64_t size = (depth + 1) * channels;
  std::vector<T> partial(groups * members * size, T(0));
  const dtnn::cuda::TileWeightGradArgs<T> args{
      items.data(), static_cast<int64_t>(items.size()), groups, members, size, first_row, rows, partial.data()};
  for (int time = 0; time < 2; ++time) {
    if (const char* const error = dtnn::cuda::launch_tile_weight_grads(args, nullptr)) return error;
  }
  return dtnn::cuda::launch_sum_of_groups(partial.data(), sums, members * size, groups, members * size, nullptr);
}

template <typename T>
std::string check(int64_t rows, int64_t depth, int64_t channels, int64_t members, int64_t groups) {
  constexpr int64_t first = 3;
  const std::vector<T> x = dtnn::cases::integers<T>((first + rows) * depth);
  const std::vector<T> grad = dtnn::cases::integers<T>(members * rows * channels);
  std::vector<T> sums(members * (depth + 1) * channels, T(1e9));
  const char* const error = run<T>(x.data(), grad.data(), sums.data(), first, rows, depth, channels, members, groups);
  if (error != nullptr) return error;
  for (int64_t m = 0; m < members; ++m) {
    for (int64_t i = 0; i < (depth + 1) * channels; ++i) {
      const int64_t d = i / channels, c = i % channels;
      T sum = 0;
      for (int64_t r = 0; r < rows; ++r) {
        sum += grad[(m * rows + r) * channels + c] * (d < depth ? x[(first + r) * depth + d] : T(1));
      }
      if (sums[m * (depth + 1) * channels + i] != 2 * sum) return "wrong sums";
    }
  }
  return "";
}

}  // namespace

#define DTNN_TILE_WEIGHT_GRADS(suffix, T)                                                                           \
  extern "C" const char* tile_weight_grads_##suffix(const T* x, const T* grad, T* sums, int64_t first_row,          \
                                                    int64_t rows, int64_t depth, int64_t channels, int64_t members, \
                                                    int64_t groups) {                                               \
    return run<T>(x, grad, sums, first_row, rows, depth, channels, members, groups);                                \
  }
DTNN_TILE_WEIGHT_GRADS(f32, float)
DTNN_TILE_WEIGHT_GRADS(f64, double)

DTNN_CASE(tile_weight_grads) {
  for (const int64_t depth : {0, 1, 64, 70}) {
    for (const int64_t channels : {1, 36, 130}) {
      std::string error = check<float>(50, depth, channels, 2, 3);
      if (error.empty()) error = check<double>(33, depth, channels, 1, 5);
      if (!error.empty()) return error;
    }
  }
  return "";
}
