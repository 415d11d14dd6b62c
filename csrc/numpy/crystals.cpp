// SPDX-License-Identifier: MIT
#include "crystals.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <vector>

#include "core/bonding.h"
#include "core/contacts.h"
#include "core/lattice.h"
#include "core/pair_histogram.h"
#include "core/sound_crystals.h"

namespace py = pybind11;

namespace dtnn {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

PeriodicCrystals view(const Array<double>& positions, const Array<double>& cells, const Array<int64_t>& ptr,
                      const Array<double>& radii) {
  return {positions.data(), cells.data(), ptr.data(), radii.data(), static_cast<int64_t>(ptr.shape(0)) - 1};
}

Array<double> compact_cells(const Array<double>& cells) {
  Array<double> compact({cells.shape(0), py::ssize_t{3}, py::ssize_t{3}});
  for (py::ssize_t b = 0; b < cells.shape(0); ++b) {
    const std::array<Vec3, 3> rows = compact_cell(cells.data() + 9 * b);
    for (int k = 0; k < 3; ++k) std::copy(rows[k].begin(), rows[k].end(), compact.mutable_data() + 9 * b + 3 * k);
  }
  return compact;
}

Array<double> wrap_crystals(const Array<double>& positions, const Array<double>& cells, const Array<int64_t>& ptr,
                            const Array<bool>& chosen) {
  Array<double> wrapped({positions.shape(0), py::ssize_t{3}});
  for (py::ssize_t b = 0; b + 1 < ptr.shape(0); ++b) {
    const int64_t start = ptr.data()[b], end = ptr.data()[b + 1];
    const double* const from = positions.data() + 3 * start;
    double* const to = wrapped.mutable_data() + 3 * start;
    if (chosen.data()[b])
      wrap_atoms(from, end - start, cells.data() + 9 * b, to);
    else
      std::copy(from, from + 3 * (end - start), to);
  }
  return wrapped;
}

Array<bool> find_sound_crystals(const Array<double>& positions, const Array<double>& cells, const Array<bool>& pbc,
                                const Array<int64_t>& ptr, const Array<int64_t>& atomic_numbers,
                                const Array<bool>& is_known, const Array<double>& radii, double volume_per_atom,
                                double radius_fraction, double filling, double coordinate) {
  Array<bool> is_sound(ptr.shape(0) - 1);
  const PeriodicCrystals crystals{positions.data(), cells.data(), ptr.data(), nullptr,
                                  static_cast<int64_t>(ptr.shape(0)) - 1};
  const ElementTable elements{is_known.data(), radii.data(), static_cast<int64_t>(is_known.shape(0))};
  const SoundLimits limits{volume_per_atom, radius_fraction, filling, coordinate};
  bool* const results = is_sound.mutable_data();
  {
    const py::gil_scoped_release release;
    find_sound(crystals, pbc.data(), atomic_numbers.data(), elements, limits, results);
  }
  return is_sound;
}

py::tuple nearest_contacts_arrays(const Array<double>& positions, const Array<double>& cells, const Array<int64_t>& ptr,
                                  const Array<double>& radii, const Array<double>& cutoffs) {
  Array<double> fractions(positions.shape(0));
  Array<int64_t> neighbors(positions.shape(0));
  const PeriodicCrystals crystals = view(positions, cells, ptr, radii);
  double* const fraction = fractions.mutable_data();
  int64_t* const neighbor = neighbors.mutable_data();
  {
    const py::gil_scoped_release release;
    nearest_contacts(crystals, cutoffs.data(), fraction, neighbor);
  }
  return py::make_tuple(fractions, neighbors);
}

py::object closest_pair_of(const Array<double>& positions, const Array<double>& cell, double max_distance) {
  AtomPair pair;
  {
    const py::gil_scoped_release release;
    pair = closest_pair(positions.data(), positions.shape(0), cell.data(), max_distance);
  }
  if (pair.first < 0) return py::none();
  return py::make_tuple(pair.first, pair.second, pair.distance);
}

py::tuple describe_bonding_arrays(const Array<double>& positions, const Array<double>& cells, const Array<int64_t>& ptr,
                                  const Array<double>& radii, double cutoff) {
  const PeriodicCrystals crystals = view(positions, cells, ptr, radii);
  std::vector<Bonding> results(crystals.num_crystals);
  {
    const py::gil_scoped_release release;
    describe_bonding(crystals, cutoff, results.data());
  }
  Array<int64_t> lone(crystals.num_crystals), dimensions(crystals.num_crystals);
  Array<double> fractions(crystals.num_crystals);
  for (int64_t b = 0; b < crystals.num_crystals; ++b) {
    lone.mutable_data()[b] = results[b].num_lone_atoms;
    dimensions.mutable_data()[b] = results[b].dimension;
    fractions.mutable_data()[b] = results[b].bond_fraction;
  }
  return py::make_tuple(lone, dimensions, fractions);
}

Array<double> pair_histogram_of(const Array<double>& positions, const Array<double>& cell,
                                const Array<int64_t>& elements, int64_t num_elements, double unit, double step,
                                int64_t num_bins) {
  Array<double> histogram(
      {static_cast<py::ssize_t>(num_elements * (num_elements + 1) / 2), static_cast<py::ssize_t>(num_bins)});
  std::fill(histogram.mutable_data(), histogram.mutable_data() + histogram.size(), 0.0);
  double* const counts = histogram.mutable_data();
  {
    const py::gil_scoped_release release;
    pair_histogram(positions.data(), cell.data(), elements.data(), positions.shape(0), {unit, step, num_bins}, counts);
  }
  return histogram;
}

}  // namespace

void add_crystal_functions(py::module_& module) {
  module.def("compact_cells", &compact_cells, py::arg("cells").noconvert(), "Returns compact cells [B, 3, 3].");
  module.def("wrap_crystals", &wrap_crystals, py::arg("positions").noconvert(), py::arg("cells").noconvert(),
             py::arg("ptr").noconvert(), py::arg("chosen").noconvert(),
             "Returns positions [N, 3], those of chosen crystals [B] moved into their cells.");
  module.def("find_sound_crystals", &find_sound_crystals, py::arg("positions").noconvert(),
             py::arg("cells").noconvert(), py::arg("pbc").noconvert(), py::arg("ptr").noconvert(),
             py::arg("atomic_numbers").noconvert(), py::arg("is_known").noconvert(), py::arg("radii").noconvert(),
             py::arg("volume_per_atom"), py::arg("radius_fraction"), py::arg("filling"), py::arg("coordinate"),
             "Returns whether each crystal needs no second look, [B]; see sound_crystals.h.");
  module.def("nearest_contacts", &nearest_contacts_arrays, py::arg("positions").noconvert(),
             py::arg("cells").noconvert(), py::arg("ptr").noconvert(), py::arg("radii").noconvert(),
             py::arg("cutoffs").noconvert(), "Returns fractions [N] and neighbors [N]; see contacts.h.");
  module.def("closest_pair", &closest_pair_of, py::arg("positions").noconvert(), py::arg("cell").noconvert(),
             py::arg("max_distance"), "Returns two atoms and their distance, or None.");
  module.def("pair_histogram", &pair_histogram_of, py::arg("positions").noconvert(), py::arg("cell").noconvert(),
             py::arg("elements").noconvert(), py::arg("num_elements"), py::arg("unit"), py::arg("step"),
             py::arg("num_bins"), "Returns a histogram of distances [pairs of elements, bins]; see pair_histogram.h.");
  module.def("describe_bonding", &describe_bonding_arrays, py::arg("positions").noconvert(),
             py::arg("cells").noconvert(), py::arg("ptr").noconvert(), py::arg("radii").noconvert(), py::arg("cutoff"),
             "Returns num_lone_atoms [B], dimension [B] and bond_fraction [B]; see bonding.h.");
}

}  // namespace dtnn
