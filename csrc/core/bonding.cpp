// SPDX-License-Identifier: MIT
#include "bonding.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "crystal_grid.h"

namespace dtnn {
namespace {

using Period = std::array<int64_t, 3>;

Period cross(const Period& a, const Period& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

bool is_zero(const Period& a) { return a[0] == 0 && a[1] == 0 && a[2] == 0; }

// Independent ones among the lattice translations that lead from a part of the crystal to itself.
struct Periods {
  int rank = 0;
  Period found[2];

  void add(const Period& period) {
    if (rank == 0) {
      if (!is_zero(period)) found[rank++] = period;
    } else if (rank == 1) {
      if (!is_zero(cross(found[0], period))) found[rank++] = period;
    } else if (rank == 2) {
      const Period normal = cross(found[0], found[1]);
      rank += normal[0] * period[0] + normal[1] * period[1] + normal[2] * period[2] != 0;
    }
  }
  void add_all(const Periods& other) {
    // The third vector is not kept; nothing is left to add to a part that is endless in all directions.
    if (other.rank == 3) rank = 3;
    for (int k = 0; k < std::min(other.rank, 2); ++k) add(other.found[k]);
  }
};

// Connected parts: a forest in which each atom knows the lattice translation from its parent to itself.
class Parts {
 public:
  explicit Parts(int64_t num_atoms)
      : parent_(num_atoms), from_parent_(num_atoms), size_(num_atoms, 1), periods_(num_atoms) {
    for (int64_t i = 0; i < num_atoms; ++i) parent_[i] = i, from_parent_[i] = {0, 0, 0};
  }

  // The root of an atom's part; afterwards it is the atom's parent.
  int64_t root(int64_t atom) {
    path_.clear();
    int64_t top = atom;
    for (; parent_[top] != top; top = parent_[top]) path_.push_back(top);
    // From the top down, so that each translation is that from the root when the one below needs it.
    for (size_t k = path_.size(); k-- > 0;) {
      const int64_t i = path_[k];
      if (parent_[i] == top) continue;
      for (int m = 0; m < 3; ++m) from_parent_[i][m] += from_parent_[parent_[i]][m];
      parent_[i] = top;
    }
    return top;
  }

  // Atom j, moved by the translation `image`, is bonded to atom i.
  void connect(int64_t i, int64_t j, const Shift& image) {
    int64_t root_i = root(i), root_j = root(j);
    if (root_i == root_j && periods_[root_i].rank == 3) return;
    Period step;  // from root i to root j, along the bond
    for (int m = 0; m < 3; ++m) step[m] = from_parent_[i][m] + image[m] - from_parent_[j][m];
    if (root_i == root_j) {
      periods_[root_i].add(step);
      is_whole_ = size_[root_i] == num_atoms() && periods_[root_i].rank == 3;
      return;
    }
    if (size_[root_i] < size_[root_j]) {
      std::swap(root_i, root_j);
      for (int64_t& component : step) component = -component;
    }
    parent_[root_j] = root_i;
    from_parent_[root_j] = step;
    size_[root_i] += size_[root_j];
    periods_[root_i].add_all(periods_[root_j]);
    is_whole_ = size_[root_i] == num_atoms() && periods_[root_i].rank == 3;
  }

  // Whether all atoms are one part that is endless in all directions, to which further bonds add nothing.
  bool is_whole() const { return is_whole_; }

  int64_t lowest_dimension() const {
    int lowest = 3;
    for (size_t i = 0; i < parent_.size(); ++i)
      if (parent_[i] == static_cast<int64_t>(i)) lowest = std::min(lowest, periods_[i].rank);
    return lowest;
  }

 private:
  int64_t num_atoms() const { return static_cast<int64_t>(parent_.size()); }

  bool is_whole_ = false;
  std::vector<int64_t> parent_;
  std::vector<Period> from_parent_;
  std::vector<int64_t> size_;     // of roots: atoms of the part
  std::vector<Periods> periods_;  // of roots
  std::vector<int64_t> path_;
};

}  // namespace

double median(double* values, int64_t count) {
  if (count == 0) return std::numeric_limits<double>::quiet_NaN();
  double* const middle = values + count / 2;
  std::nth_element(values, middle, values + count);
  return count % 2 == 1 ? *middle : 0.5 * (*std::max_element(values, middle) + *middle);
}

void describe_bonding(const PeriodicCrystals& crystals, double cutoff, Bonding* results) {
  std::vector<double> nearest;  // squares of fractions, while bonds are visited
  for (int64_t b = 0; b < crystals.num_crystals; ++b) {
    const int64_t start = crystals.ptr[b], num_atoms = crystals.ptr[b + 1] - start;
    const double* const radii = crystals.radii + start;
    const CrystalGrid grid(crystals.positions + 3 * start, num_atoms, crystals.cells + 9 * b, cutoff);
    Parts parts(num_atoms);
    nearest.assign(num_atoms, std::numeric_limits<double>::infinity());
    for (int64_t i = 0; i < num_atoms; ++i) {
      grid.visit_neighbors<true>(i, [&](int64_t j, const Shift& image, double squared) {
        const double sum = radii[i] + radii[j];
        if (squared < std::max(nearest[i], nearest[j]) * (sum * sum)) {
          const double fraction = squared / (sum * sum);
          nearest[i] = std::min(nearest[i], fraction);
          nearest[j] = std::min(nearest[j], fraction);
        }
        if (!parts.is_whole()) parts.connect(i, j, image);
        return true;
      });
    }
    for (double& fraction : nearest) fraction = std::sqrt(fraction);
    results[b].num_lone_atoms = std::count(nearest.begin(), nearest.end(), std::numeric_limits<double>::infinity());
    results[b].dimension = parts.lowest_dimension();
    results[b].bond_fraction = median(nearest.data(), num_atoms);
  }
}

}  // namespace dtnn
