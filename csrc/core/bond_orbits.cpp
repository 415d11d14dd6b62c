// SPDX-License-Identifier: MIT
#include "bond_orbits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>

#include "symmetry_operations.h"

namespace dtnn {
namespace {

using IntVec3 = std::array<int32_t, 3>;

// A bond with this relative distance from the cutoff may be missing in the list. The envelope there is below 1e-20.
constexpr double kAtCutoff = 1e-9;

struct Directed {
  int32_t neighbor;
  IntVec3 shift;
  bool operator==(const Directed& other) const { return neighbor == other.neighbor && shift == other.shift; }
};

uint64_t hash_of(const Directed& bond) {
  const auto word = [](int32_t a, int32_t b) {
    return static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32 | static_cast<uint32_t>(b);
  };
  uint64_t hash = word(bond.neighbor, bond.shift[0]) * 0x9E3779B97F4A7C15ull;
  hash ^= hash >> 32;
  hash = (hash + word(bond.shift[1], bond.shift[2])) * 0xD6E8FEB86659FD93ull;
  return hash ^ hash >> 32;
}

// In int64, which cannot overflow for matrices whose entries are at most kLargestEntry.
IntVec3 sum_of(const IntVec3& turned, const int32_t* plus, const int32_t* minus) {
  IntVec3 sum;
  for (int k = 0; k < 3; ++k) sum[k] = static_cast<int32_t>(int64_t{turned[k]} + plus[k] - minus[k]);
  return sum;
}

template <typename T>
IntVec3 times(const T* w, const IntVec3& s) {
  IntVec3 product;
  for (int i = 0; i < 3; ++i)
    product[i] =
        static_cast<int32_t>(int64_t{w[3 * i]} * s[0] + int64_t{w[3 * i + 1]} * s[1] + int64_t{w[3 * i + 2]} * s[2]);
  return product;
}

// The inverse of an integer matrix with determinant 1 or -1.
std::array<int64_t, 9> inverse(const int32_t* matrix) {
  std::array<int64_t, 9> m;
  std::copy_n(matrix, 9, m.begin());
  const std::array<int64_t, 9> adjugate{
      m[4] * m[8] - m[5] * m[7], m[2] * m[7] - m[1] * m[8], m[1] * m[5] - m[2] * m[4],
      m[5] * m[6] - m[3] * m[8], m[0] * m[8] - m[2] * m[6], m[2] * m[3] - m[0] * m[5],
      m[3] * m[7] - m[4] * m[6], m[1] * m[6] - m[0] * m[7], m[0] * m[4] - m[1] * m[3]};
  const int64_t determinant = m[0] * adjugate[0] + m[1] * adjugate[3] + m[2] * adjugate[6];
  std::array<int64_t, 9> result;
  for (int k = 0; k < 9; ++k) result[k] = determinant * adjugate[k];
  return result;
}

// The directed bonds that start at the stored atoms, each with the number of its orbit.
class DirectedBonds {
 public:
  DirectedBonds(const BondOrbitArguments& arguments, const std::vector<int32_t>& place, int64_t num_stored)
      : start_(num_stored + 1, 0), table_start_(num_stored + 1, 0) {
    for_each(arguments, place, [&](int32_t center, const Directed&) { ++start_[center + 1]; });
    for (int64_t c = 0; c < num_stored; ++c) {
      int64_t size = 4;
      while (size < 2 * start_[c + 1]) size *= 2;
      table_start_[c + 1] = table_start_[c] + size;
      start_[c + 1] += start_[c];
    }
    bonds_.resize(start_[num_stored]);
    orbit.assign(start_[num_stored], -1);
    table_.assign(table_start_[num_stored], -1);
    std::vector<int64_t> next(start_.begin(), start_.end() - 1);
    for_each(arguments, place, [&](int32_t center, const Directed& bond) {
      bonds_[next[center]] = bond;
      table_[slot(center, bond)] = static_cast<int32_t>(next[center] - start_[center]);
      ++next[center];
    });
  }

  int64_t first(int64_t center) const { return start_[center]; }
  int64_t last(int64_t center) const { return start_[center + 1]; }
  const Directed& operator[](int64_t index) const { return bonds_[index]; }

  // Index of a bond of a stored atom, or -1.
  int64_t find(int64_t center, const Directed& bond) const {
    const int32_t offset = table_[slot(center, bond)];
    return offset < 0 ? -1 : start_[center] + offset;
  }

  std::vector<int32_t> orbit;  // of each directed bond

 private:
  template <typename Visit>
  static void for_each(const BondOrbitArguments& arguments, const std::vector<int32_t>& place, const Visit& visit) {
    for (int64_t i = 0; i < arguments.num_atoms; ++i)
      for (int64_t e = arguments.row_ptr[i]; e < arguments.row_ptr[i + 1]; ++e) {
        const int32_t j = static_cast<int32_t>(arguments.neighbors[e] - arguments.first_atom);
        const int32_t* s = arguments.bond_shifts + 3 * e;
        if (place[i] >= 0) visit(place[i], Directed{j, {s[0], s[1], s[2]}});
        if (arguments.half && place[j] >= 0) visit(place[j], Directed{static_cast<int32_t>(i), {-s[0], -s[1], -s[2]}});
      }
  }

  // The place of a bond in the table of its atom: where it is, or the free place where it would go.
  int64_t slot(int64_t center, const Directed& bond) const {
    const int64_t mask = table_start_[center + 1] - table_start_[center] - 1;
    int64_t k = static_cast<int64_t>(hash_of(bond)) & mask;
    while (true) {
      const int32_t offset = table_[table_start_[center] + k];
      if (offset < 0 || bonds_[start_[center] + offset] == bond) return table_start_[center] + k;
      k = (k + 1) & mask;
    }
  }

  std::vector<int64_t> start_, table_start_;
  std::vector<Directed> bonds_;
  std::vector<int32_t> table_;
};

// Directed bonds of one orbit that start at one stored atom.
struct DirectedOrbit {
  int32_t center;
  int32_t count;
  int64_t first;  // directed bond
  bool is_whole;  // all images are in the list
};

[[noreturn]] void raise_missing(int64_t center, const Directed& bond) {
  throw std::invalid_argument("expected `pairs` with every image of every bond, got none from atom " +
                              std::to_string(center) + " to atom " + std::to_string(bond.neighbor) + " with shift [" +
                              std::to_string(bond.shift[0]) + ", " + std::to_string(bond.shift[1]) + ", " +
                              std::to_string(bond.shift[2]) + "]");
}

// Checks that the operations are those of the crystal. A crystal with the identity alone needs no volume.
void check_operations(const BondOrbitArguments& arguments) {
  const int64_t num_atoms = arguments.num_atoms, num_operations = arguments.num_operations;
  for (int64_t k = 0; k < 3 * num_atoms; ++k)
    if (!std::isfinite(arguments.positions[k]))
      throw std::invalid_argument("expected finite `positions`, got NaN or infinity at atom " + std::to_string(k / 3));
  for (int k = 0; k < 9; ++k)
    if (!std::isfinite(arguments.cell[k])) throw std::invalid_argument("expected a finite `cell`, got NaN or infinity");
  bool is_identity = num_operations == 1;
  for (int k = 0; is_identity && k < 9; ++k) is_identity = arguments.rotations[k] == (k % 4 == 0);
  for (int64_t a = 0; is_identity && a < num_atoms; ++a) is_identity = arguments.atoms[a] == a;
  for (int64_t k = 0; is_identity && k < 3 * num_atoms; ++k) is_identity = arguments.shifts[k] == 0;
  if (is_identity) return;
  int64_t operation = 0;
  if (!is_mapped(num_atoms, arguments.positions, arguments.cell, num_operations, arguments.rotations, arguments.atoms,
                 arguments.shifts, operation))
    throw std::invalid_argument(
        "expected `cell`, `atoms` and `shifts` of operations that map the crystal onto itself, got others "
        "for operation " +
        std::to_string(operation));
  if (!is_group(num_atoms, num_operations, arguments.rotations, arguments.atoms, operation))
    throw std::invalid_argument(
        "expected `rotations` of operations that are a group, each once, got one that does not "
        "fit the others: operation " +
        std::to_string(operation));
}

}  // namespace

BondOrbits find_bond_orbits(const BondOrbitArguments& arguments) {
  check_operations(arguments);
  const int64_t num_atoms = arguments.num_atoms, num_operations = arguments.num_operations;
  const auto image = [&](int64_t g, int64_t a) { return arguments.atoms[g * num_atoms + a]; };
  const auto shift_of = [&](int64_t g, int64_t a) { return arguments.shifts + 3 * (g * num_atoms + a); };
  const auto rotation = [&](int64_t g) { return arguments.rotations + 9 * g; };
  BondOrbits result;

  // Stored atoms, and for each atom the operation that makes it of its stored atom: the identity for stored atoms.
  std::vector<int32_t> place(num_atoms, -1), stored_of(num_atoms, -1), made_by(num_atoms, -1);
  std::vector<std::vector<int32_t>> stabiliser;
  for (int64_t a = 0; a < num_atoms; ++a) {
    if (stored_of[a] >= 0) continue;
    const int32_t number = static_cast<int32_t>(result.stored.size());
    place[a] = number;
    std::vector<int32_t> keeps;
    int64_t weight = 0;
    for (int64_t g = 0; g < num_operations; ++g) {
      const int32_t b = image(g, a);
      if (b == a) keeps.push_back(static_cast<int32_t>(g));
      if (stored_of[b] < 0) {
        stored_of[b] = number;
        made_by[b] = static_cast<int32_t>(g);
        ++weight;
      }
    }
    constexpr int32_t kIdentity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    for (const int32_t g : keeps)
      if (std::equal(kIdentity, kIdentity + 9, rotation(g))) made_by[a] = g;
    result.stored.push_back(a);
    result.weight.push_back(weight);
    stabiliser.push_back(std::move(keeps));
  }
  const int64_t num_stored = static_cast<int64_t>(result.stored.size());

  // Rotations of all operations, and their means over the group and over each stabiliser.
  std::vector<double> turn3(9 * num_operations), turn6(36 * num_operations);
  std::fill_n(result.projector, 36, 0.0);
  for (int64_t g = 0; g < num_operations; ++g) {
    cartesian_rotation(arguments.cell, rotation(g), turn3.data() + 9 * g);
    rank2_rotation(turn3.data() + 9 * g, turn6.data() + 36 * g);
    for (int k = 0; k < 36; ++k) result.projector[k] += turn6[36 * g + k] / num_operations;
  }
  result.site_vector.assign(9 * num_stored, 0.0);
  result.site_rank2.assign(36 * num_stored, 0.0);
  for (int64_t c = 0; c < num_stored; ++c)
    for (const int32_t g : stabiliser[c]) {
      const double share = 1.0 / static_cast<double>(stabiliser[c].size());
      for (int k = 0; k < 9; ++k) result.site_vector[9 * c + k] += share * turn3[9 * g + k];
      for (int k = 0; k < 36; ++k) result.site_rank2[36 * c + k] += share * turn6[36 * g + k];
    }

  // Orbits of the directed bonds of each stored atom under its stabiliser.
  DirectedBonds directed(arguments, place, num_stored);
  std::vector<DirectedOrbit> orbits;
  const double longest = arguments.cutoffs[arguments.num_cutoffs - 1];
  const auto vector_of = [&](int64_t center, const Directed& bond) {
    std::array<double, 3> vector;
    const double* from = arguments.positions + 3 * result.stored[center];
    const double* to = arguments.positions + 3 * bond.neighbor;
    const double s0 = bond.shift[0], s1 = bond.shift[1], s2 = bond.shift[2];
    const double* cell = arguments.cell;
    // The arithmetic of neighbor_list.
    for (int k = 0; k < 3; ++k) vector[k] = (to[k] - from[k]) + ((s0 * cell[k] + s1 * cell[3 + k]) + s2 * cell[6 + k]);
    return vector;
  };
  const auto squared = [](const std::array<double, 3>& v) { return (v[0] * v[0] + v[1] * v[1]) + v[2] * v[2]; };
  const auto is_at_cutoff = [&](int64_t center, const Directed& bond) {
    return std::abs(std::sqrt(squared(vector_of(center, bond))) - longest) <= kAtCutoff * longest;
  };
  for (int64_t c = 0; c < num_stored; ++c) {
    const int64_t atom = result.stored[c];
    for (int64_t e = directed.first(c); e < directed.last(c); ++e) {
      if (directed.orbit[e] >= 0) continue;
      const Directed bond = directed[e];
      const int32_t number = static_cast<int32_t>(orbits.size());
      DirectedOrbit orbit{static_cast<int32_t>(c), 0, e, true};
      for (const int32_t g : stabiliser[c]) {
        const Directed moved{image(g, bond.neighbor),
                             sum_of(times(rotation(g), bond.shift), shift_of(g, bond.neighbor), shift_of(g, atom))};
        const int64_t found = directed.find(c, moved);
        if (found < 0) {
          if (!is_at_cutoff(c, bond)) raise_missing(atom, moved);
          orbit.is_whole = false;
        } else if (directed.orbit[found] != number) {
          directed.orbit[found] = number;
          ++orbit.count;
        }
      }
      orbits.push_back(orbit);
    }
  }

  // Join each orbit with that of its reverse. The first of the two is stored.
  std::vector<char> is_joined(orbits.size(), 0);
  std::vector<std::vector<int32_t>> sources(num_operations);  // the atom that goes to each atom
  for (size_t o = 0; o < orbits.size(); ++o) {
    if (is_joined[o]) continue;
    const DirectedOrbit& orbit = orbits[o];
    const Directed& bond = directed[orbit.first];
    const int64_t center = result.stored[orbit.center], neighbor_place = stored_of[bond.neighbor];
    const int64_t origin = result.stored[neighbor_place], g = made_by[bond.neighbor];
    if (sources[g].empty()) {
      sources[g].resize(num_atoms);
      for (int64_t a = 0; a < num_atoms; ++a) sources[g][image(g, a)] = static_cast<int32_t>(a);
    }
    // The bond from `origin` that operation g takes to the reverse, (neighbor, center, -shift).
    const int32_t end = sources[g][center];
    const IntVec3 backward{-bond.shift[0], -bond.shift[1], -bond.shift[2]};
    const IntVec3 shift = sum_of(backward, shift_of(g, origin), shift_of(g, end));
    const Directed reverse{end, times(inverse(rotation(g)).data(), shift)};
    const int64_t found = directed.find(neighbor_place, reverse);
    const bool is_self_reverse = found >= 0 && directed.orbit[found] == static_cast<int32_t>(o);
    is_joined[o] = 1;
    if (found < 0 && !is_at_cutoff(orbit.center, bond)) raise_missing(origin, reverse);
    if (found >= 0) is_joined[directed.orbit[found]] = 1;
    if (found < 0 || !orbit.is_whole || !orbits[directed.orbit[found]].is_whole) continue;

    StoredBond stored{};
    stored.center = orbit.center;
    stored.neighbor = static_cast<int32_t>(neighbor_place);
    std::copy_n(bond.shift.begin(), 3, stored.shift);
    stored.num_at_center = orbit.count;
    stored.num_at_neighbor = is_self_reverse ? 0 : orbits[directed.orbit[found]].count;
    if (!is_self_reverse &&
        orbit.count * result.weight[orbit.center] != stored.num_at_neighbor * result.weight[neighbor_place])
      throw std::invalid_argument(
          "expected operations that are a group, got orbits of different size at the two ends of "
          "a bond of atom " +
          std::to_string(center));
    const std::array<double, 3> vector = vector_of(orbit.center, bond);
    std::copy_n(vector.begin(), 3, stored.vector);
    std::copy_n(turn3.begin() + 9 * g, 9, stored.rotation);
    while (stored.level + 1 < arguments.num_cutoffs &&
           !(squared(vector) < arguments.cutoffs[stored.level] * arguments.cutoffs[stored.level]))
      ++stored.level;
    result.bonds.push_back(stored);
  }
  return result;
}

}  // namespace dtnn
