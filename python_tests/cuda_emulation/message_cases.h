// SPDX-License-Identifier: MIT
// Shared by the cases of bond_messages, its backward and their first half: plain pointers as arguments, and bonds whose
// results are exact.
#pragma once

#include "bond_ends_cases.h"
#include "bond_messages.h"

namespace dtnn::cases {

// `sizes`: N, E, C, V, R, H. `floats`: the twelve tensors, then turn and turn_counts, which may be null. `indices`:
// pairs, row_ptr, neighbor_order, neighbor_row_ptr.
template <typename T>
cuda::MessageArgs<T> message_arguments(const char* op, const int64_t* sizes, const T* const* floats,
                                       const int64_t* const* indices, int64_t precision) {
  const int64_t outputs = sizes[2] + 5 * sizes[3];
  return {{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], outputs, outputs + sizes[4]},
          floats[0],
          floats[1],
          floats[2],
          floats[3],
          floats[4],
          floats[5],
          floats[6],
          floats[7],
          floats[8],
          floats[9],
          floats[10],
          floats[11],
          floats[12],
          floats[13],
          indices[0],
          indices[1],
          indices[2],
          indices[3],
          static_cast<cuda::Precision>(precision),
          errors(op)};
}

// `results`: the five of MessageResults.
template <typename T>
const char* run_messages(const int64_t* sizes, const T* const* floats, const int64_t* const* indices, T* const* results,
                         int64_t precision) {
  const cuda::MessageArgs<T> args = message_arguments("bond_messages", sizes, floats, indices, precision);
  std::vector<T> workspace(cuda::messages_workspace(args.sizes), T(NAN));
  return cuda::launch_bond_messages<T>(args, {results[0], results[1], results[2], results[3], results[4]},
                                       workspace.data(), nullptr);
}

// `result_grads`: five, each of which may be null. `grads`: twelve.
template <typename T>
const char* run_messages_backward(const int64_t* sizes, const T* const* floats, const int64_t* const* indices,
                                  const T* const* result_grads, T* const* grads, int64_t need_geometry,
                                  int64_t need_weights, int64_t precision) {
  const cuda::MessageArgs<T> args = message_arguments("bond_messages_backward", sizes, floats, indices, precision);
  std::vector<T> workspace(cuda::messages_backward_workspace(args.sizes, need_weights != 0), T(NAN));
  const cuda::MessageInputGrads<T> input_grads{need_geometry != 0, need_weights != 0, grads[0],  grads[1], grads[2],
                                               grads[3],           grads[4],          grads[5],  grads[6], grads[7],
                                               grads[8],           grads[9],          grads[10], grads[11]};
  return cuda::launch_bond_messages_backward<T>(
      args, {result_grads[0], result_grads[1], result_grads[2], result_grads[3], result_grads[4]}, input_grads,
      workspace.data(), nullptr);
}

// Small integers, and no weight after the hidden layer: what does not pass through the perceptron is exact.
template <typename T>
struct MessageData {
  Bonds bonds;
  std::vector<int64_t> sizes;
  std::vector<std::vector<T>> floats;

  MessageData(int64_t num_atoms, int max_degree, int64_t scalars, int64_t vectors, int64_t radial, int64_t hidden,
              bool turned)
      : bonds(num_atoms, max_degree, 2) {
    const int64_t n = num_atoms, e = bonds.num_bonds, outputs = scalars + 5 * vectors;
    sizes = {n, e, scalars, vectors, radial, hidden};
    for (const int64_t count : {n * 3 * vectors, n * 6 * vectors, n * hidden, e * scalars, e * 3 * vectors, e * 3, e,
                                e * radial, hidden * (outputs + radial), hidden, outputs * hidden, outputs}) {
      floats.push_back(integers<T>(count));
    }
    std::fill(floats[10].begin(), floats[10].end(), T(0));
    if (!turned) return;
    floats.emplace_back(e * 9, T(0));
    for (int64_t bond = 0; bond < e; ++bond) {  // a turn by 90 degrees
      T* const r = floats[12].data() + 9 * bond;
      r[1] = -1, r[3] = 1, r[8] = 1;
    }
    floats.emplace_back(2 * e, T(2));
  }

  std::vector<const T*> pointers() const {
    std::vector<const T*> result;
    for (const std::vector<T>& array : floats) result.push_back(array.data());
    result.resize(14, nullptr);
    return result;
  }
  std::vector<const int64_t*> indices() const {
    return {bonds.pairs.data(), bonds.row_ptr.data(), bonds.neighbor_order.data(), bonds.neighbor_row_ptr.data()};
  }
  std::vector<std::vector<T>> like_results() const {
    const int64_t n = sizes[0], e = sizes[1], c = sizes[2], v = sizes[3];
    std::vector<std::vector<T>> results;
    for (const int64_t count : {e * c, e * 3 * v, n * c, n * 3 * v, n * 6 * v}) results.emplace_back(count, T(1e9));
    return results;
  }
};

template <typename T>
std::vector<T*> pointers_to(std::vector<std::vector<T>>& arrays) {
  std::vector<T*> result;
  for (std::vector<T>& array : arrays) result.push_back(array.data());
  return result;
}

// Numbers of atoms, most bonds of an atom as a center, scalars, vectors, radial functions and hidden channels.
inline const int64_t kMessageShapes[][6] = {{0, 0, 2, 1, 1, 2},  {5, 0, 2, 1, 1, 2},    {7, 3, 1, 1, 1, 1},
                                            {40, 9, 4, 4, 3, 4}, {30, 12, 5, 33, 2, 7}, {12, 3, 0, 2, 0, 3},
                                            {12, 3, 3, 0, 2, 5}, {12, 3, 2, 1, 1, 0},   {60, 5, 36, 3, 8, 40}};

}  // namespace dtnn::cases
