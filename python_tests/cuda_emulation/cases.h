// SPDX-License-Identifier: MIT
// Cases: runs of kernels without Python, for the executable that is built with AddressSanitizer and
// UndefinedBehaviorSanitizer (run_cases.cpp). A case returns "" or what went wrong.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "device_errors.h"

namespace dtnn::cases {

using Run = std::string (*)();

struct Case {
  const char* name;
  Run run;
};

inline std::vector<Case>& all_cases() {
  static std::vector<Case> cases;
  return cases;
}

struct Register {
  Register(const char* name, Run run) { all_cases().push_back({name, run}); }
};

// DTNN_CASE(name) { ...; return ""; }
#define DTNN_CASE(name)                                                      \
  static std::string case_##name();                                          \
  static const ::dtnn::cases::Register register_##name(#name, &case_##name); \
  static std::string case_##name()

// Random bonds of `num_atoms` atoms. Buffers are exactly as large as the contract says, so that a sanitizer sees the
// next byte.
struct Bonds {
  std::vector<int64_t> pairs, row_ptr, neighbor_order, neighbor_row_ptr;
  int64_t num_atoms, num_bonds;

  Bonds(int64_t num_atoms, int max_degree, unsigned seed) : row_ptr{0}, num_atoms(num_atoms) {
    std::mt19937 random(seed);
    std::vector<int64_t> centers, neighbors;
    for (int64_t atom = 0; atom < num_atoms; ++atom) {
      const unsigned degree = random() % static_cast<unsigned>(max_degree + 1);
      for (unsigned k = 0; k < degree; ++k) {
        centers.push_back(atom);
        neighbors.push_back(static_cast<int64_t>(random() % static_cast<unsigned>(num_atoms)));
      }
      row_ptr.push_back(static_cast<int64_t>(centers.size()));
    }
    num_bonds = static_cast<int64_t>(centers.size());
    pairs = centers;
    pairs.insert(pairs.end(), neighbors.begin(), neighbors.end());
    pairs.shrink_to_fit();
    row_ptr.shrink_to_fit();
    sort_by_neighbor();
  }

  void sort_by_neighbor() {
    neighbor_order.clear();
    neighbor_row_ptr.clear();
    for (int64_t atom = 0; atom <= num_atoms; ++atom) {
      neighbor_row_ptr.push_back(static_cast<int64_t>(neighbor_order.size()));
      for (int64_t bond = 0; bond < num_bonds; ++bond) {
        if (pairs[num_bonds + bond] == atom) neighbor_order.push_back(bond);
      }
    }
    neighbor_order.shrink_to_fit();
    neighbor_row_ptr.shrink_to_fit();
  }
};

// Small integers: sums of them are exact, in any order and type.
template <typename T>
std::vector<T> integers(int64_t count) {
  std::vector<T> values(count);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(static_cast<int>(i * 7 % 23) - 11);
  return values;
}

// Whether the numbers are equal; NaN equals NaN.
template <typename T>
bool equal(const std::vector<T>& actual, const std::vector<T>& expected) {
  return std::equal(actual.begin(), actual.end(), expected.begin(), expected.end(),
                    [](T a, T b) { return a == b || (a != a && b != b); });
}

// Where the kernels of one launch of `op` report bad indices, as on a GPU of the number `device`.
inline cuda::ErrorSink errors(const char* op, int device = 0) {
  const char* problem = nullptr;
  return cuda::make_error_sink(op, device, &problem);
}

// What the kernels have reported since the last call, "" when nothing.
inline std::string reported(int device = 0) { return cuda::take_device_error(device, nullptr); }

}  // namespace dtnn::cases
