// SPDX-License-Identifier: MIT
#include "decode.h"

#include <cmath>

#include "cases.h"

namespace {

template <typename T>
const char* sums(const T* tensors, const T* share, const int64_t* ptr, T* out, int64_t readouts, int64_t atoms,
                 int64_t crystals) {
  std::vector<char> workspace(dtnn::cuda::crystal_tensors_workspace(readouts, atoms));
  const dtnn::cuda::CrystalTensorsArgs<T> args{
      tensors, share, ptr, out, workspace.data(), readouts, atoms, crystals, dtnn::cases::errors("decode")};
  return dtnn::cuda::launch_crystal_tensors(args, nullptr);
}

// Sums of two readouts, compared with whole numbers where they are exact: with shares.
template <typename T>
std::string check(const std::vector<int64_t>& ptr, int64_t atoms, bool shared) {
  const int64_t crystals = static_cast<int64_t>(ptr.size()) - 1;
  const std::vector<T> tensors = dtnn::cases::integers<T>(2 * atoms * 6), share = dtnn::cases::integers<T>(atoms);
  std::vector<T> out(2 * crystals * 9, T(7));
  const char* const error =
      sums(tensors.data(), shared ? share.data() : nullptr, ptr.data(), out.data(), 2, atoms, crystals);
  if (error != nullptr) return error;
  const std::string report = dtnn::cases::reported();
  if (!report.empty()) return "reported " + report;
  std::vector<T> expected(out.size(), T(0));
  constexpr int kSix[9] = {0, 5, 4, 5, 1, 3, 4, 3, 2};
  for (int64_t d = 0; shared && d < 2; ++d) {
    for (int64_t b = 0; b < crystals; ++b) {
      for (int64_t n = ptr[b]; n < ptr[b + 1]; ++n) {
        for (int k = 0; k < 9; ++k) {
          expected[(d * crystals + b) * 9 + k] += share[n] * tensors[(d * atoms + n) * 6 + kSix[k]];
        }
      }
    }
  }
  return !shared || dtnn::cases::equal(out, expected) ? "" : "wrong sums";
}

// Gradients of the atoms from the tenth on, of the second of two readouts.
template <typename T>
std::string check_grads(const std::vector<int64_t>& ptr, int64_t atoms, bool shared) {
  const int64_t crystals = static_cast<int64_t>(ptr.size()) - 1, members = 2, first = 10;
  const int64_t rows = std::max<int64_t>(0, atoms - first), room = rows + 3;
  const std::vector<T> grad = dtnn::cases::integers<T>(members * 2 * crystals * 9);
  const std::vector<T> tensors = dtnn::cases::integers<T>(members * room * 6);
  const std::vector<T> share = dtnn::cases::integers<T>(atoms);
  std::vector<T> found(tensors.size(), T(7)), found_share(atoms, T(5));
  const dtnn::cuda::AtomTensorGradsArgs<T> args{grad.data(),
                                                shared ? share.data() : nullptr,
                                                ptr.data(),
                                                tensors.data(),
                                                found.data(),
                                                found_share.data(),
                                                members,
                                                2,
                                                1,
                                                atoms,
                                                crystals,
                                                room,
                                                first,
                                                rows,
                                                dtnn::cases::errors("decode_backward")};
  const char* const error = dtnn::cuda::launch_atom_tensor_grads(args, nullptr);
  if (error != nullptr) return error;
  const std::string report = dtnn::cases::reported();
  if (!report.empty()) return report;
  std::vector<T> expected(found.size(), T(7)), expected_share(found_share.size(), T(5));
  constexpr int kSix[9] = {0, 5, 4, 5, 1, 3, 4, 3, 2};
  for (int64_t b = 0; b < crystals; ++b) {
    for (int64_t n = std::max(first, ptr[b]); n < ptr[b + 1]; ++n) {
      const T factor = shared ? share[n] : T(1) / static_cast<T>(ptr[b + 1] - ptr[b]);
      for (int64_t m = 0; m < members; ++m) {
        T six[6] = {};
        for (int k = 0; k < 9; ++k) six[kSix[k]] += grad[((m * 2 + 1) * crystals + b) * 9 + k];
        for (int k = 0; k < 6; ++k) {
          const int64_t place = (m * room + n - first) * 6 + k;
          expected[place] = factor * six[k];
          expected_share[n] += six[k] * tensors[place];
        }
      }
    }
  }
  if (!dtnn::cases::equal(found, expected)) return "wrong gradients";
  return dtnn::cases::equal(found_share, expected_share) ? "" : "wrong gradients of the shares";
}

}  // namespace

extern "C" {
const char* crystal_tensors_f32(const float* tensors, const float* share, const int64_t* ptr, float* out,
                                int64_t readouts, int64_t atoms, int64_t crystals) {
  return sums(tensors, share, ptr, out, readouts, atoms, crystals);
}
const char* crystal_tensors_f64(const double* tensors, const double* share, const int64_t* ptr, double* out,
                                int64_t readouts, int64_t atoms, int64_t crystals) {
  return sums(tensors, share, ptr, out, readouts, atoms, crystals);
}
}

DTNN_CASE(decode) {
  const std::vector<int64_t> sizes[] = {{0, 700}, {0, 1, 3, 4, 20, 21, 700}};
  for (const std::vector<int64_t>& ptr : sizes) {
    for (const bool shared : {false, true}) {
      std::string error = check<float>(ptr, 700, shared);
      if (error.empty()) error = check<double>(ptr, 700, shared);
      if (error.empty()) error = check_grads<float>(ptr, 700, shared);
      if (error.empty()) error = check_grads<double>(ptr, 700, shared);
      if (!error.empty()) return error;
    }
  }
  const std::vector<int64_t> wrong[] = {{1, 300}, {0, 299}, {0, 301}, {0, 50, 50, 300}, {0, 200, 100, 300}, {0, 0}};
  for (const std::vector<int64_t>& ptr : wrong) {
    const std::string error = check<float>(ptr, 300, true);
    if (error.rfind("reported decode: expected `ptr` that rises", 0) != 0) return "ptr was not reported: " + error;
  }
  return "";
}
