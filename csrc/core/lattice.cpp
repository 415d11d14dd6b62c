// SPDX-License-Identifier: MIT
#include "lattice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

namespace dtnn {
namespace {

constexpr double kPi = 3.14159265358979323846;
// A periodic vector this much shorter than another one, after reduction, is rounding noise of dependent vectors.
constexpr double kSmallestLengthRatio = 1e-10;
// A reduced basis has a volume of at least about half the product of its lengths; far below that it is flat.
constexpr double kSmallestVolumeRatio = 1e-5;
constexpr int64_t kLargestCombination = int64_t{1} << 30;

Vec3 cross(const Vec3& a, const Vec3& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

double length(const Vec3& a) { return std::sqrt(dot(a, a)); }

Vec3 scaled(const Vec3& a, double factor) { return {a[0] * factor, a[1] * factor, a[2] * factor}; }

[[noreturn]] void no_volume() {
  throw std::invalid_argument("the `cell` has no volume: its periodic vectors are zero or linearly dependent");
}

[[noreturn]] void shifts_too_large() {
  throw std::invalid_argument("shifts beyond 32-bit integers: the `cell` is too small or skewed for this `cutoff`");
}

// The smallest integer >= x, for |x| < 2^62, without a call into libm, which the baseline instruction set would need.
int64_t round_up(double x) {
  const int64_t truncated = static_cast<int64_t>(x);
  return truncated + (x > static_cast<double>(truncated));
}

// Adds steps_q basis[q] + steps_r basis[r] to basis[p] if that makes it clearly shorter.
bool shorten(Lattice& lattice, int p, int q, double steps_q, int r, double steps_r) {
  constexpr double kClearly = 1 - 1e-6;
  Vec3& vector = lattice.basis[p];
  Vec3 candidate;
  for (int x = 0; x < 3; ++x) candidate[x] = vector[x] + steps_q * lattice.basis[q][x] + steps_r * lattice.basis[r][x];
  if (!(dot(candidate, candidate) < kClearly * dot(vector, vector))) return false;
  vector = candidate;
  lattice.keeps_cell = false;
  for (int m = 0; m < 3; ++m) {
    const int64_t steps = static_cast<int64_t>(steps_q) * lattice.combination[q][m] +
                          static_cast<int64_t>(steps_r) * lattice.combination[r][m];
    lattice.combination[p][m] += steps;
    if (std::llabs(lattice.combination[p][m]) > kLargestCombination) no_volume();
  }
  return true;
}

// Shortens the periodic vectors until none gets shorter by adding a multiple of another one or one of each other.
// Vectors that are short already stay as they are, in their order, so common cells keep their own axes.
void reduce(Lattice& lattice) {
  const int n = lattice.num_periodic;
  for (bool changed = true; changed;) {
    changed = false;
    for (int p = 0; p < n; ++p) {
      for (int q = 0; q < n; ++q) {
        const double squared = dot(lattice.basis[q], lattice.basis[q]);
        if (!(squared > 0)) no_volume();
        if (p == q) continue;
        const double steps = -std::nearbyint(dot(lattice.basis[p], lattice.basis[q]) / squared);
        if (!(std::abs(steps) <= static_cast<double>(kLargestCombination))) no_volume();
        if (steps != 0) changed |= shorten(lattice, p, q, steps, q, 0);
      }
    }
    for (int p = 0; n == 3 && !changed && p < 3; ++p)
      for (int sign = 0; sign < 4 && !changed; ++sign)
        changed = shorten(lattice, p, (p + 1) % 3, sign & 1 ? 1 : -1, (p + 2) % 3, sign & 2 ? 1 : -1);
  }
}

// Unit vectors orthogonal to the periodic ones and to each other.
void complete(Lattice& lattice) {
  std::array<Vec3, 3>& basis = lattice.basis;
  if (lattice.num_periodic == 0) {
    basis = {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}};
  } else if (lattice.num_periodic == 1) {
    Vec3 axis{};
    const Vec3& a = basis[0];
    const int smallest = static_cast<int>(
        std::min_element(a.begin(), a.end(), [](double p, double q) { return std::abs(p) < std::abs(q); }) - a.begin());
    axis[smallest] = 1;
    basis[1] = cross(a, axis);
    basis[1] = scaled(basis[1], 1 / length(basis[1]));
    basis[2] = cross(a, basis[1]);
    basis[2] = scaled(basis[2], 1 / length(basis[2]));
  } else if (lattice.num_periodic == 2) {
    basis[2] = cross(basis[0], basis[1]);
    basis[2] = scaled(basis[2], 1 / length(basis[2]));
  }
}

}  // namespace

Lattice make_lattice(const double cell[9], const bool pbc[3]) {
  Lattice lattice;
  double longest = 0;
  for (int m = 0; m < 3; ++m) {
    lattice.cell[m] = {cell[3 * m], cell[3 * m + 1], cell[3 * m + 2]};
    if (!pbc[m]) continue;
    const double squared = dot(lattice.cell[m], lattice.cell[m]);
    if (!std::isfinite(squared)) throw std::invalid_argument("the `cell` is too large for float64 arithmetic");
    longest = std::max(longest, std::sqrt(squared));
    lattice.basis[lattice.num_periodic] = lattice.cell[m];
    lattice.combination[lattice.num_periodic][m] = 1;
    ++lattice.num_periodic;
  }
  reduce(lattice);
  double product = 1;
  for (int k = 0; k < lattice.num_periodic; ++k) {
    Vec3 exact{};  // from the integers, so that rounding errors of the reduction do not stay
    lattice.rounding_length[k] = 0;
    for (int m = 0; m < 3; ++m) {
      const double steps = static_cast<double>(lattice.combination[k][m]);
      for (int x = 0; x < 3; ++x) exact[x] += steps * lattice.cell[m][x];
      if (steps != 0) lattice.rounding_length[k] += std::abs(steps) * length(lattice.cell[m]);
    }
    lattice.basis[k] = exact;
    const double norm = length(exact);
    if (!(norm > kSmallestLengthRatio * longest)) no_volume();
    product *= norm;
  }
  complete(lattice);
  const double determinant = dot(lattice.basis[0], cross(lattice.basis[1], lattice.basis[2]));
  lattice.volume = std::abs(determinant);
  if (!(lattice.volume > kSmallestVolumeRatio * product) || !std::isnormal(lattice.volume)) no_volume();
  for (int k = 0; k < 3; ++k) {
    lattice.dual[k] = scaled(cross(lattice.basis[(k + 1) % 3], lattice.basis[(k + 2) % 3]), 1 / determinant);
    lattice.height[k] = 1 / length(lattice.dual[k]);
    if (k >= lattice.num_periodic) lattice.rounding_length[k] = 1;
  }
  return lattice;
}

std::array<Vec3, 3> compact_cell(const double cell[9]) {
  // Squared lengths below this are the rounding error of linearly dependent vectors. Angstrom^2
  constexpr double kRoundingError = 1e-12;
  // Ends ties: a vector that gets shorter by rounding only is not taken.
  constexpr double kClearly = 1 - 1e-12;
  std::array<Vec3, 3> rows;
  for (int m = 0; m < 3; ++m) rows[m] = {cell[3 * m], cell[3 * m + 1], cell[3 * m + 2]};
  // Every pass shortens a vector, and a lattice has finitely many shorter ones.
  while (true) {
    std::stable_sort(rows.begin(), rows.end(), [](const Vec3& a, const Vec3& b) { return dot(a, a) < dot(b, b); });
    bool shortened = false;
    for (const auto& [i, j] : {std::pair<int, int>{1, 0}, {2, 0}, {2, 1}}) {
      const double steps = std::nearbyint(dot(rows[i], rows[j]) / dot(rows[j], rows[j]));
      Vec3 shorter;
      for (int m = 0; m < 3; ++m) shorter[m] = rows[i][m] - steps * rows[j][m];
      // False for a vector of length 0, by which nothing can be divided.
      if (!(dot(shorter, shorter) < dot(rows[i], rows[i]) * kClearly)) continue;
      rows[i] = shorter;
      shortened = true;
    }
    if (dot(rows[0], rows[0]) < kRoundingError) return rows;
    if (shortened) continue;
    // Three vectors at 120 degrees, nearly in a plane: no pair can be shortened, but their sum is shorter.
    Vec3 shortest = rows[2];
    double limit = dot(rows[2], rows[2]) * kClearly;
    for (const double sign0 : {-1.0, 1.0}) {
      for (const double sign1 : {-1.0, 1.0}) {
        Vec3 sum;
        for (int m = 0; m < 3; ++m) sum[m] = rows[2][m] + sign0 * rows[0][m] + sign1 * rows[1][m];
        if (!(dot(sum, sum) < limit)) continue;
        shortest = sum;
        limit = dot(sum, sum);
        shortened = true;
      }
    }
    if (!shortened) return rows;
    rows[2] = shortest;
  }
}

void wrap_atoms(const double* positions, int64_t num_atoms, const double cell[9], double* wrapped) {
  // An atom this near to a face is on it, whatever the rounding errors: it goes to the face through the origin.
  constexpr double kOnFace = 1e-9;
  std::array<Vec3, 3> rows, dual;
  for (int k = 0; k < 3; ++k) rows[k] = {cell[3 * k], cell[3 * k + 1], cell[3 * k + 2]};
  const double determinant = dot(rows[0], cross(rows[1], rows[2]));
  for (int k = 0; k < 3; ++k) {
    dual[k] = cross(rows[(k + 1) % 3], rows[(k + 2) % 3]);
    for (double& component : dual[k]) component /= determinant;
  }
  for (int64_t i = 0; i < num_atoms; ++i) {
    const Vec3 r = {positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]};
    Vec3 cells;
    for (int k = 0; k < 3; ++k) cells[k] = std::floor(dot(dual[k], r) + kOnFace);
    for (int m = 0; m < 3; ++m)
      wrapped[3 * i + m] = r[m] - ((cells[0] * rows[0][m] + cells[1] * rows[1][m]) + cells[2] * rows[2][m]);
  }
}

double count_translations(const Lattice& lattice, double radius) {
  switch (lattice.num_periodic) {
    case 0:
      return 1;
    case 1:
      return 1 + 2 * radius / lattice.volume;
    case 2:
      return 1 + kPi * radius * radius / lattice.volume;
    default:
      return 1 + 4 * kPi / 3 * radius * radius * radius / lattice.volume;
  }
}

std::vector<Shift> translations_within(const Lattice& lattice, double radius) {
  const int n = lattice.num_periodic;
  if (n == 0) return {Shift{0, 0, 0}};
  // Orthonormal axes, the last one along the last vector: step k moves along the axes k, k+1, ... only, so that each
  // integer in turn is bounded by what the ones before left of the sphere. axis_step is zero where there is no vector.
  std::array<Vec3, 3> axis{}, axis_step{};
  Vec3 steps_per_length{};
  for (int k = n - 1; k >= 0; --k) {
    Vec3 rest = lattice.basis[k];
    for (int m = k + 1; m < n; ++m) {
      axis_step[k][m] = dot(lattice.basis[k], axis[m]);
      for (int x = 0; x < 3; ++x) rest[x] -= axis_step[k][m] * axis[m][x];
    }
    axis_step[k][k] = length(rest);
    steps_per_length[k] = 1 / axis_step[k][k];
    axis[k] = scaled(rest, steps_per_length[k]);
  }
  constexpr double kLargestSteps = 1073741824;  // 2^30
  if (!(radius * *std::max_element(steps_per_length.begin(), steps_per_length.end()) < kLargestSteps))
    shifts_too_large();
  constexpr double kSlack = 1e-6;  // in steps: more than any rounding error here
  const auto reach = [&](int k, double left) {
    return left > 0 ? std::sqrt(left) * steps_per_length[k] + kSlack : kSlack;
  };

  std::vector<Shift> shifts;
  shifts.reserve(static_cast<size_t>(std::min(2 * count_translations(lattice, radius) + 16, 1e6)));
  const double squared = radius * radius;
  const double reach0 = reach(0, squared);
  for (int64_t s0 = round_up(-reach0); static_cast<double>(s0) <= reach0; ++s0) {
    const double along0 = static_cast<double>(s0) * axis_step[0][0],
                 offset1 = static_cast<double>(s0) * axis_step[0][1];
    const double left1 = squared - along0 * along0;
    const double center1 = -offset1 * steps_per_length[1], reach1 = reach(1, left1);
    for (int64_t s1 = round_up(center1 - reach1); static_cast<double>(s1) <= center1 + reach1; ++s1) {
      const double along1 = offset1 + static_cast<double>(s1) * axis_step[1][1];
      const double offset2 = static_cast<double>(s0) * axis_step[0][2] + static_cast<double>(s1) * axis_step[1][2];
      const double left2 = left1 - along1 * along1;
      const double center2 = -offset2 * steps_per_length[2], reach2 = reach(2, left2);
      for (int64_t s2 = round_up(center2 - reach2); static_cast<double>(s2) <= center2 + reach2; ++s2) {
        const std::array<int64_t, 3> shift = lattice.to_shift({s0, s1, s2});
        const int64_t largest = std::max({std::llabs(shift[0]), std::llabs(shift[1]), std::llabs(shift[2])});
        if (largest > std::numeric_limits<int32_t>::max()) shifts_too_large();
        shifts.push_back(
            {static_cast<int32_t>(shift[0]), static_cast<int32_t>(shift[1]), static_cast<int32_t>(shift[2])});
      }
    }
  }
  if (!lattice.keeps_cell) std::sort(shifts.begin(), shifts.end());
  return shifts;
}

}  // namespace dtnn
