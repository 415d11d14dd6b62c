// SPDX-License-Identifier: MIT
#include "symmetry_operations.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>
#include <vector>

namespace dtnn {
namespace {

using Matrix = std::array<double, 9>;

// An atom and its image, each up to a tolerance from its place, and the two that fix the translation.
constexpr double kReach = 4;
// The means obey the operations to rounding; more is a contradiction between the operations. Angstrom
constexpr double kResidual = 1e-8;
// How near an atom of a symmetric crystal has to come to its image, in Angstrom, and relatively its cell's metric.
constexpr double kMapped = 1e-6;
constexpr double kRounding = 1e-9;
// A cell that has to be stretched by more than this has another symmetry, whatever the tolerance.
constexpr double kLargestStrain = 0.2;
// Bins start here and not at 0, since atoms like to sit on fractions with small denominators.
constexpr double kBinOffset = 0.1377;

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix c{};
  for (int i = 0; i < 3; ++i)
    for (int k = 0; k < 3; ++k)
      for (int j = 0; j < 3; ++j) c[3 * i + j] += a[3 * i + k] * b[3 * k + j];
  return c;
}

bool is_identity(const int32_t* w) {
  for (int k = 0; k < 9; ++k)
    if (w[k] != (k % 4 == 0)) return false;
  return true;
}

Matrix transposed(const Matrix& a) { return {a[0], a[3], a[6], a[1], a[4], a[7], a[2], a[5], a[8]}; }

template <typename T>
T determinant(const T* m) {
  return m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) + m[2] * (m[3] * m[7] - m[4] * m[6]);
}

Matrix inverse(const Matrix& m) {
  const double scale = 1 / determinant(m.data());
  return {
      (m[4] * m[8] - m[5] * m[7]) * scale, (m[2] * m[7] - m[1] * m[8]) * scale, (m[1] * m[5] - m[2] * m[4]) * scale,
      (m[5] * m[6] - m[3] * m[8]) * scale, (m[0] * m[8] - m[2] * m[6]) * scale, (m[2] * m[3] - m[0] * m[5]) * scale,
      (m[3] * m[7] - m[4] * m[6]) * scale, (m[1] * m[6] - m[0] * m[7]) * scale, (m[0] * m[4] - m[1] * m[3]) * scale};
}

// The symmetric square root of a symmetric matrix near the unit matrix, by Newton's iteration (Babylonian method),
// which doubles the number of right digits in every step.
Matrix square_root(const Matrix& m) {
  Matrix root{1, 0, 0, 0, 1, 0, 0, 0, 1};
  for (int step = 0; step < 8; ++step) {
    const Matrix other = product(inverse(root), m);
    for (int k = 0; k < 9; ++k) root[k] = 0.5 * (root[k] + other[k]);
  }
  const Matrix mirror = transposed(root);
  for (int k = 0; k < 9; ++k) root[k] = 0.5 * (root[k] + mirror[k]);
  return root;
}

void apply(const int32_t* w, const double* f, double* out) {
  for (int i = 0; i < 3; ++i) out[i] = (w[3 * i] * f[0] + w[3 * i + 1] * f[1]) + w[3 * i + 2] * f[2];
}

double length(const double* fractional, const Matrix& cell) {
  double squared = 0;
  for (int k = 0; k < 3; ++k) {
    const double x = (fractional[0] * cell[k] + fractional[1] * cell[3 + k]) + fractional[2] * cell[6 + k];
    squared += x * x;
  }
  return std::sqrt(squared);
}

// Atoms in a grid of bins over the unit cell, to find the atom at a place.
class AtomBins {
 public:
  AtomBins(const std::vector<double>& fractional, const Matrix& cell, double reach) : fractional_(fractional) {
    const int64_t num_atoms = static_cast<int64_t>(fractional.size()) / 3;
    size_ = std::clamp<int64_t>(std::llround(std::cbrt(static_cast<double>(num_atoms))), 1, 32);
    const Matrix inv = inverse(cell);
    // A step of length `reach` changes fractional coordinate k by no more than this.
    for (int k = 0; k < 3; ++k)
      margin_[k] = size_ * reach * std::sqrt(inv[k] * inv[k] + inv[3 + k] * inv[3 + k] + inv[6 + k] * inv[6 + k]);
    start_.assign(size_ * size_ * size_ + 1, 0);
    std::vector<int64_t> bin(num_atoms);
    for (int64_t a = 0; a < num_atoms; ++a) {
      int64_t index = 0;
      for (int k = 0; k < 3; ++k) index = index * size_ + static_cast<int64_t>(place(fractional[3 * a + k]));
      ++start_[(bin[a] = index) + 1];
    }
    for (size_t b = 1; b < start_.size(); ++b) start_[b] += start_[b - 1];
    std::vector<int64_t> next(start_.begin(), start_.end() - 1);
    atoms_.resize(num_atoms);
    for (int64_t a = 0; a < num_atoms; ++a) atoms_[next[bin[a]]++] = a;
  }

  // Calls visit(atom) for every atom that may lie within the reach of a fractional position.
  template <typename Visit>
  void near(const double* position, const Visit& visit) const {
    std::array<int64_t, 3> first, count;
    for (int k = 0; k < 3; ++k) {
      const double x = place(position[k]);
      const double low = std::floor(x - margin_[k]), high = std::floor(x + margin_[k]);
      count[k] = static_cast<int64_t>(std::min<double>(high - low + 1, static_cast<double>(size_)));
      first[k] = static_cast<int64_t>(low - size_ * std::floor(low / size_));
    }
    for (int64_t i = 0; i < count[0]; ++i)
      for (int64_t j = 0; j < count[1]; ++j)
        for (int64_t k = 0; k < count[2]; ++k) {
          const int64_t bin = (wrap(first[0] + i) * size_ + wrap(first[1] + j)) * size_ + wrap(first[2] + k);
          for (int64_t e = start_[bin]; e < start_[bin + 1]; ++e) visit(atoms_[e]);
        }
  }

 private:
  // Where a coordinate lies on the circle of bins, in [0, size).
  double place(double coordinate) const {
    const double x = coordinate + kBinOffset;
    return std::min((x - std::floor(x)) * size_, std::nextafter(static_cast<double>(size_), 0.0));
  }
  int64_t wrap(int64_t index) const { return index >= size_ ? index - size_ : index; }

  const std::vector<double>& fractional_;
  int64_t size_;
  std::array<double, 3> margin_;
  std::vector<int64_t> start_, atoms_;
};

struct Operation {
  std::array<int32_t, 9> rotation;
  int32_t image;
  bool operator==(const Operation& other) const { return rotation == other.rotation && image == other.image; }
};

struct OperationHash {
  size_t operator()(const Operation& operation) const {
    uint64_t hash = static_cast<uint64_t>(operation.image);
    for (int32_t value : operation.rotation)
      hash = (hash ^ static_cast<uint32_t>(value)) * 0x9E3779B97F4A7C15ull + (hash >> 29);
    return hash;
  }
};

}  // namespace

// By Dimino's algorithm: the group is built from as few operations as generate it, and every product that is formed has
// to be among them. About G log G products.
bool is_group(int64_t num_atoms, int64_t num_operations, const int32_t* rotations, const int32_t* atoms,
              int64_t& operation) {
  std::unordered_map<Operation, int64_t, OperationHash> index;
  index.reserve(2 * num_operations);
  std::vector<Operation> operations(num_operations);
  for (int64_t g = 0; g < num_operations; ++g) {
    std::copy_n(rotations + 9 * g, 9, operations[g].rotation.begin());
    operations[g].image = atoms[g * num_atoms];
    operation = g;
    if (!index.emplace(operations[g], g).second) return false;
  }
  const auto multiply = [&](int64_t g, int64_t h) -> int64_t {
    Operation result{};
    const auto &a = operations[g].rotation, &b = operations[h].rotation;
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j)
        result.rotation[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
    result.image = atoms[g * num_atoms + operations[h].image];
    const auto found = index.find(result);
    return found == index.end() ? -1 : found->second;
  };
  const auto identity = index.find(Operation{{1, 0, 0, 0, 1, 0, 0, 0, 1}, 0});
  operation = 0;
  if (identity == index.end()) return false;
  std::vector<char> is_member(num_operations, 0);
  std::vector<int64_t> members{identity->second}, generators;
  is_member[identity->second] = 1;
  for (int64_t g = 0; g < num_operations; ++g) {
    if (is_member[g]) continue;
    generators.push_back(g);
    const size_t subgroup = members.size();
    // Adds the coset (subgroup) r.
    const auto add_coset = [&](int64_t r) {
      for (size_t m = 0; m < subgroup; ++m) {
        const int64_t element = multiply(members[m], r);
        if (element < 0 || is_member[element]) return false;
        is_member[element] = 1;
        members.push_back(element);
      }
      return true;
    };
    operation = g;
    if (!add_coset(g)) return false;
    for (size_t coset = subgroup; coset < members.size(); coset += subgroup)
      for (const int64_t generator : generators) {
        const int64_t element = multiply(members[coset], generator);
        if (element < 0) return false;
        if (!is_member[element] && !add_coset(element)) return false;
      }
  }
  return true;
}

bool is_mapped(int64_t num_atoms, const double* positions, const double* cell, int64_t num_operations,
               const int32_t* rotations, const int32_t* atoms, const int32_t* shifts, int64_t& operation) {
  Matrix matrix;
  std::copy_n(cell, 9, matrix.begin());
  const Matrix to_fractional = inverse(matrix);
  std::vector<double> fractional(3 * num_atoms);
  for (int64_t a = 0; a < num_atoms; ++a)
    for (int k = 0; k < 3; ++k) {
      const double* r = positions + 3 * a;
      fractional[3 * a + k] = (r[0] * to_fractional[k] + r[1] * to_fractional[3 + k]) + r[2] * to_fractional[6 + k];
    }
  const Matrix metric = product(matrix, transposed(matrix));
  const double largest = std::max({metric[0], metric[4], metric[8]});
  for (operation = 0; operation < num_operations; ++operation) {
    Matrix w;
    for (int k = 0; k < 9; ++k) w[k] = rotations[9 * operation + k];
    const Matrix turned = product(transposed(w), product(metric, w));
    for (int k = 0; k < 9; ++k)
      if (!(std::abs(turned[k] - metric[k]) <= kMapped * largest)) return false;
    double translation[3] = {0, 0, 0};
    for (int64_t a = 0; a < num_atoms; ++a) {
      const int64_t row = operation * num_atoms + a;
      double moved[3];
      apply(rotations + 9 * operation, fractional.data() + 3 * a, moved);
      for (int k = 0; k < 3; ++k) {
        moved[k] -= fractional[3 * atoms[row] + k] + shifts[3 * row + k];
        // The first atom tells the translation.
        if (a == 0) translation[k] = moved[k];
        moved[k] -= translation[k];
      }
      if (!(length(moved, matrix) < kMapped)) return false;
    }
  }
  return true;
}

void cartesian_rotation(const double cell[9], const int32_t rotation[9], double result[9]) {
  if (is_identity(rotation)) {
    for (int k = 0; k < 9; ++k) result[k] = k % 4 == 0;
    return;
  }
  // Rows of the cell are lattice vectors, so L = cell^T.
  Matrix lattice, w;
  std::copy_n(cell, 9, lattice.begin());
  lattice = transposed(lattice);
  for (int k = 0; k < 9; ++k) w[k] = rotation[k];
  Matrix r = product(product(lattice, w), inverse(lattice));
  // One step of Newton's iteration to the nearest orthogonal matrix removes the rounding of skewed cells.
  const Matrix other = transposed(inverse(r));
  for (int k = 0; k < 9; ++k) result[k] = 0.5 * (r[k] + other[k]);
}

void rank2_rotation(const double rotation[9], double result[36]) {
  constexpr int kRow[6] = {0, 1, 2, 1, 0, 0}, kColumn[6] = {0, 1, 2, 2, 2, 1};
  for (int a = 0; a < 6; ++a) {
    const double *left = rotation + 3 * kRow[a], *right = rotation + 3 * kColumn[a];
    for (int b = 0; b < 6; ++b) {
      double value = left[kRow[b]] * right[kColumn[b]];
      // An off-diagonal component stands for two elements of the matrix.
      if (b >= 3) value += left[kColumn[b]] * right[kRow[b]];
      result[6 * a + b] = value;
    }
  }
}

void symmetrise(const SymmetryArguments& arguments, SymmetryResult& result) {
  const int64_t num_atoms = arguments.num_atoms, count = arguments.num_operations;
  const auto fail = [&](SymmetryFault fault, int64_t detail) {
    result.fault = fault;
    result.detail = detail;
  };
  if (count == 1 && is_identity(arguments.rotations) && arguments.images[0] == 0) {
    std::copy_n(arguments.positions, 3 * num_atoms, result.positions);
    std::copy_n(arguments.cell, 9, result.cell);
    for (int64_t a = 0; a < num_atoms; ++a) result.atoms[a] = static_cast<int32_t>(a);
    std::fill_n(result.shifts, 3 * num_atoms, 0);
    return;
  }
  Matrix cell;
  std::copy_n(arguments.cell, 9, cell.begin());
  bool is_finite = std::abs(determinant(cell.data())) > 0;
  for (double value : cell) is_finite = is_finite && std::isfinite(value);
  for (int64_t k = 0; k < 3 * num_atoms; ++k) is_finite = is_finite && std::isfinite(arguments.positions[k]);
  if (!is_finite) return fail(SymmetryFault::kNotFinite, 0);
  for (int64_t g = 0; g < count; ++g) {
    const int32_t* w = arguments.rotations + 9 * g;
    int64_t entries[9];
    bool is_small = true;
    for (int k = 0; k < 9; ++k) {
      entries[k] = w[k];
      is_small = is_small && std::abs(entries[k]) <= kLargestEntry;
    }
    if (!is_small || std::abs(determinant(entries)) != 1) return fail(SymmetryFault::kBadRotation, g);
    if (arguments.images[g] < 0 || arguments.images[g] >= num_atoms) return fail(SymmetryFault::kBadImage, g);
    if (arguments.elements[arguments.images[g]] != arguments.elements[0]) return fail(SymmetryFault::kElements, g);
  }

  // Fractional positions in the given cell, moved into it.
  const Matrix to_fractional = inverse(cell);
  std::vector<double> given(3 * num_atoms);
  for (int64_t a = 0; a < num_atoms; ++a) {
    const double* r = arguments.positions + 3 * a;
    for (int k = 0; k < 3; ++k) {
      const double x = (r[0] * to_fractional[k] + r[1] * to_fractional[3 + k]) + r[2] * to_fractional[6 + k];
      // Zero up to rounding stays near zero.
      given[3 * a + k] = x - std::floor(x + kRounding);
    }
  }

  // The mean metric, and the pure stretch F that gives it: cell F F^T cell^T = metric.
  {
    const Matrix metric = product(cell, transposed(cell));
    Matrix mean{};
    for (int64_t g = 0; g < count; ++g) {
      Matrix w;
      for (int k = 0; k < 9; ++k) w[k] = arguments.rotations[9 * g + k];
      const Matrix turned = product(transposed(w), product(metric, w));
      for (int k = 0; k < 9; ++k) mean[k] += turned[k] / count;
    }
    const Matrix squared = product(to_fractional, product(mean, transposed(to_fractional)));
    for (int k = 0; k < 9; ++k)
      if (!(std::abs(squared[k] - (k % 4 == 0)) < kLargestStrain)) return fail(SymmetryFault::kStrain, 0);
    cell = product(cell, square_root(squared));
    for (int row = 0; row < 3; ++row) {
      double moved = 0;
      for (int k = 3 * row; k < 3 * row + 3; ++k) moved += std::pow(cell[k] - arguments.cell[k], 2);
      moved = std::sqrt(moved);
      result.strain = std::max(result.strain, moved);
      if (!(moved <= arguments.tolerance)) return fail(SymmetryFault::kStrain, row);
    }
  }
  std::copy_n(cell.begin(), 9, result.cell);

  const AtomBins bins(given, cell, kReach * arguments.tolerance);
  std::vector<double> translations(3 * count), sums(3 * num_atoms, 0.0);
  std::vector<int64_t> reached_by(num_atoms, -1);
  const double reach = kReach * arguments.tolerance;
  for (int64_t g = 0; g < count; ++g) {
    const int32_t* w = arguments.rotations + 9 * g;
    double* const translation = translations.data() + 3 * g;
    int32_t* const atoms = result.atoms + g * num_atoms;
    int32_t* const shifts = result.shifts + 3 * g * num_atoms;
    double moved[3];
    apply(w, given.data(), moved);
    for (int k = 0; k < 3; ++k) translation[k] = given[3 * arguments.images[g] + k] - moved[k];
    double mean[3] = {0, 0, 0};
    for (int64_t a = 0; a < num_atoms; ++a) {
      apply(w, given.data() + 3 * a, moved);
      for (int k = 0; k < 3; ++k) moved[k] += translation[k];
      int64_t best = -1;
      double nearest = reach, offset[3];
      bins.near(moved, [&](int64_t b) {
        if (arguments.elements[b] != arguments.elements[a]) return;
        double d[3];
        for (int k = 0; k < 3; ++k) {
          d[k] = moved[k] - given[3 * b + k];
          d[k] -= std::rint(d[k]);
        }
        const double distance = length(d, cell);
        if (distance > nearest || (distance == nearest && best >= 0 && b > best)) return;
        nearest = distance;
        best = b;
        std::copy_n(d, 3, offset);
      });
      if (best < 0 || reached_by[best] == g) return fail(SymmetryFault::kNotMapped, g);
      reached_by[best] = g;
      atoms[a] = static_cast<int32_t>(best);
      for (int k = 0; k < 3; ++k) {
        shifts[3 * a + k] = static_cast<int32_t>(std::lrint(moved[k] - given[3 * best + k]));
        mean[k] -= offset[k];
      }
    }
    // With these translations the operations are a group to rounding: w_gh = W_g w_h + w_g modulo lattice vectors.
    for (int k = 0; k < 3; ++k) translation[k] += mean[k] / num_atoms;
    for (int64_t a = 0; a < num_atoms; ++a) {
      apply(w, given.data() + 3 * a, moved);
      double* const sum = sums.data() + 3 * atoms[a];
      for (int k = 0; k < 3; ++k) sum[k] += (moved[k] + translation[k]) - shifts[3 * a + k];
    }
  }
  int64_t odd = 0;
  if (!is_group(num_atoms, count, arguments.rotations, result.atoms, odd)) return fail(SymmetryFault::kNoGroup, odd);

  int64_t farthest = 0;
  for (int64_t a = 0; a < num_atoms; ++a) {
    double* const f = sums.data() + 3 * a;
    double moved[3];
    for (int k = 0; k < 3; ++k) {
      f[k] /= count;
      moved[k] = f[k] - given[3 * a + k];
    }
    const double displacement = length(moved, cell);
    if (displacement > result.displacement) farthest = a;
    result.displacement = std::max(result.displacement, displacement);
  }
  if (result.displacement > arguments.tolerance) return fail(SymmetryFault::kDisplacement, farthest);
  for (int64_t g = 0; g < count; ++g)
    for (int64_t a = 0; a < num_atoms; ++a) {
      const int64_t row = g * num_atoms + a;
      double moved[3];
      apply(arguments.rotations + 9 * g, sums.data() + 3 * a, moved);
      for (int k = 0; k < 3; ++k)
        moved[k] += (translations[3 * g + k] - result.shifts[3 * row + k]) - sums[3 * result.atoms[row] + k];
      if (!(length(moved, cell) < kResidual)) return fail(SymmetryFault::kNotMapped, g);
    }
  for (int64_t a = 0; a < num_atoms; ++a)
    for (int k = 0; k < 3; ++k)
      result.positions[3 * a + k] =
          (sums[3 * a] * cell[k] + sums[3 * a + 1] * cell[3 + k]) + sums[3 * a + 2] * cell[6 + k];
}

}  // namespace dtnn
