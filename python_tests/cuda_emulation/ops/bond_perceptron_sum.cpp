// SPDX-License-Identifier: MIT
#include "bond_perceptron_sum.h"

#include <cmath>

#include "cases.h"

namespace {

template <typename T>
const char* run(const T* values, const T* envelope, const T* factors, const int64_t* const* indices, T* sums,
                T* envelope_sum, int64_t members, int64_t atoms, int64_t bonds, int64_t outputs) {
  const dtnn::cuda::BondValueEnds<T> ends{envelope,   factors,    indices[0],
                                          indices[1], indices[2], indices[3],
                                          atoms,      bonds,      dtnn::cases::errors("bond_perceptron_sum")};
  const char* const error = dtnn::cuda::launch_bond_value_sums(ends, values, sums, members, outputs, nullptr);
  return error != nullptr ? error : dtnn::cuda::launch_envelope_sum(ends, envelope_sum, nullptr);
}

// Whole numbers, whose sums are exact. With `bad` the last bond's neighbor is out of range.
template <typename T>
std::string check(int64_t outputs, bool with_factors, bool bad) {
  dtnn::cases::Bonds bonds(41, 9, 3);
  const int64_t e = bonds.num_bonds, n = bonds.num_atoms, members = 2;
  const std::vector<T> values = dtnn::cases::integers<T>(members * e * outputs);
  const std::vector<T> envelope = dtnn::cases::integers<T>(e), factors = dtnn::cases::integers<T>(2 * e);
  std::vector<T> sums(members * n * outputs, T(NAN)), envelope_sum(n, T(NAN));
  std::vector<T> expected(sums.size(), T(0)), expected_envelope(n, T(0));
  for (int64_t bond = 0; bond < e; ++bond) {
    for (int side = 0; side < 2; ++side) {
      const int64_t atom = bonds.pairs[side * e + bond];
      const T share = envelope[bond] * (with_factors ? factors[side * e + bond] : T(1));
      expected_envelope[atom] += share;
      for (int64_t m = 0; m < members; ++m) {
        for (int64_t d = 0; d < outputs; ++d) {
          expected[(m * n + atom) * outputs + d] += share * values[(m * e + bond) * outputs + d];
        }
      }
    }
  }
  if (bad) bonds.pairs[2 * e - 1] = n;
  const int64_t* const indices[4] = {bonds.pairs.data(), bonds.row_ptr.data(), bonds.neighbor_order.data(),
                                     bonds.neighbor_row_ptr.data()};
  const char* const error = run(values.data(), envelope.data(), with_factors ? factors.data() : nullptr, indices,
                                sums.data(), envelope_sum.data(), members, n, e, outputs);
  if (error != nullptr) return error;
  const std::string report = dtnn::cases::reported();
  if (bad) return report.find("got a bond in another atom's segment") == std::string::npos ? "not reported" : "";
  if (!report.empty()) return report;
  if (!dtnn::cases::equal(envelope_sum, expected_envelope)) return "wrong sums of the envelope";
  return dtnn::cases::equal(sums, expected) ? "" : "wrong sums";
}

// The gradients of values, envelope and factors, of the bonds from the tenth on. Whole numbers too.
template <typename T>
std::string check_grads(int64_t outputs, bool with_factors, bool with_sums, bool bad) {
  dtnn::cases::Bonds bonds(41, 9, 3);
  const int64_t e = bonds.num_bonds, n = bonds.num_atoms, members = 2, first = 10, rows = e - first, room = rows + 2;
  const std::vector<T> grad_sums = dtnn::cases::integers<T>(members * n * outputs);
  const std::vector<T> grad_envelope_sum = dtnn::cases::integers<T>(n);
  const std::vector<T> values = dtnn::cases::integers<T>(members * room * outputs);
  const std::vector<T> envelope = dtnn::cases::integers<T>(e), factors = dtnn::cases::integers<T>(2 * e);
  std::vector<T> grad_values(values.size(), T(7)), grad_envelope(e, T(7)), grad_factors(2 * e, T(7));
  std::vector<T> expected_values = grad_values, expected_envelope = grad_envelope, expected_factors = grad_factors;
  for (int64_t bond = first; bond < e; ++bond) {
    T ends[2];
    for (int side = 0; side < 2; ++side) ends[side] = grad_envelope_sum[bonds.pairs[side * e + bond]];
    for (int64_t i = 0; with_sums && i < members * outputs; ++i) {
      const int64_t m = i / outputs, d = i % outputs, place = (m * room + bond - first) * outputs + d;
      expected_values[place] = 0;
      for (int side = 0; side < 2; ++side) {
        const T grad = grad_sums[(m * n + bonds.pairs[side * e + bond]) * outputs + d];
        expected_values[place] += envelope[bond] * (with_factors ? factors[side * e + bond] : T(1)) * grad;
        ends[side] += grad * values[place];
      }
    }
    expected_envelope[bond] = 0;
    for (int side = 0; side < 2; ++side) {
      expected_envelope[bond] += ends[side] * (with_factors ? factors[side * e + bond] : T(1));
      if (with_factors) expected_factors[side * e + bond] = ends[side] * envelope[bond];
    }
  }
  if (bad) bonds.pairs[2 * e - 1] = -1;
  const dtnn::cuda::BondValueEnds<T> ends{envelope.data(),
                                          with_factors ? factors.data() : nullptr,
                                          bonds.pairs.data(),
                                          nullptr,
                                          nullptr,
                                          nullptr,
                                          n,
                                          e,
                                          dtnn::cases::errors("bond_perceptron_sum_backward")};
  const dtnn::cuda::BondValueGrads<T> grads{with_sums ? grad_sums.data() : nullptr,
                                            grad_envelope_sum.data(),
                                            values.data(),
                                            grad_values.data(),
                                            grad_envelope.data(),
                                            with_factors ? grad_factors.data() : nullptr,
                                            members,
                                            outputs,
                                            room,
                                            first,
                                            rows};
  const char* const error = dtnn::cuda::launch_bond_value_grads(ends, grads, nullptr);
  if (error != nullptr) return error;
  const std::string report = dtnn::cases::reported();
  if (bad) {
    if (report.find("index out of range: -1 at pairs[1, ") == std::string::npos) return "not reported: " + report;
    return std::isnan(grad_envelope[e - 1]) && grad_envelope[e - 2] == expected_envelope[e - 2] ? "" : "no NaN";
  }
  if (!report.empty()) return report;
  if (!dtnn::cases::equal(grad_values, expected_values)) return "wrong gradients of values";
  if (!dtnn::cases::equal(grad_envelope, expected_envelope)) return "wrong gradients of the envelope";
  return dtnn::cases::equal(grad_factors, expected_factors) ? "" : "wrong gradients of factors";
}

template <typename T>
std::string check_joined() {
  const std::vector<T> parts[4] = {
      dtnn::cases::integers<T>(3 * 70), dtnn::cases::integers<T>(3 * 5), {}, dtnn::cases::integers<T>(3)};
  dtnn::cuda::PerceptronParts<T> given{{parts[0].data(), parts[1].data(), parts[2].data(), parts[3].data()},
                                       {70, 5, 0, 1}};
  std::vector<T> flat(3 * 76, T(NAN)), expected;
  for (int64_t m = 0; m < 3; ++m) {
    for (int k = 0; k < 4; ++k) {
      const auto first = parts[k].begin() + m * given.sizes[k];
      expected.insert(expected.end(), first, first + given.sizes[k]);
    }
  }
  const char* const error = dtnn::cuda::launch_join_parts(given, flat.data(), 3, nullptr);
  if (error != nullptr) return error;
  if (!dtnn::cases::equal(flat, expected)) return "wrong joined weights";
  std::vector<T> split[4];
  dtnn::cuda::PerceptronPartGrads<T> wanted{};
  for (int k = 0; k < 4; ++k) {
    split[k].assign(parts[k].size(), T(NAN));
    wanted.data[k] = split[k].data();
    wanted.sizes[k] = given.sizes[k];
  }
  if (const char* const problem = dtnn::cuda::launch_split_parts(flat.data(), wanted, 3, nullptr)) return problem;
  for (int k = 0; k < 4; ++k) {
    if (!dtnn::cases::equal(split[k], parts[k])) return "wrong parts";
  }
  return "";
}

}  // namespace

extern "C" {
const char* bond_value_sums_f32(const float* values, const float* envelope, const float* factors,
                                const int64_t* const* indices, float* sums, float* envelope_sum, int64_t members,
                                int64_t atoms, int64_t bonds, int64_t outputs) {
  return run(values, envelope, factors, indices, sums, envelope_sum, members, atoms, bonds, outputs);
}
const char* bond_value_sums_f64(const double* values, const double* envelope, const double* factors,
                                const int64_t* const* indices, double* sums, double* envelope_sum, int64_t members,
                                int64_t atoms, int64_t bonds, int64_t outputs) {
  return run(values, envelope, factors, indices, sums, envelope_sum, members, atoms, bonds, outputs);
}
}

DTNN_CASE(bond_perceptron_sum) {
  std::string error = check_joined<float>();
  if (error.empty()) error = check_joined<double>();
  for (const int64_t outputs : {1, 3, 8, 64}) {
    for (const bool with_factors : {false, true}) {
      if (error.empty()) error = check<float>(outputs, with_factors, false);
      if (error.empty()) error = check<double>(outputs, with_factors, false);
      if (error.empty()) error = check<float>(outputs, with_factors, true);
      if (error.empty()) error = check_grads<float>(outputs, with_factors, true, false);
      if (error.empty()) error = check_grads<double>(outputs, with_factors, false, false);
      if (error.empty()) error = check_grads<double>(outputs, with_factors, true, true);
    }
  }
  return error;
}
