// SPDX-License-Identifier: MIT
// The NumPy module: the torch-free core behind dtnn_fast.numpy, which checks shapes and dtypes before it calls.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cmath>
#include <stdexcept>

#include "core/neighbor_list.h"
#include "crystals.h"

namespace py = pybind11;

namespace dtnn {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

struct Lists {
  py::array_t<int64_t> pairs;  // [2, E]
  py::array_t<int32_t> shifts;
  py::array_t<int64_t> row_ptr;
};

Lists neighbor_list(const Array<double>& positions, const Array<double>& cells, const Array<bool>& pbc,
                    const Array<int64_t>& ptr, const Array<double>& cutoffs, bool half, bool self_pairs,
                    int num_threads) {
  const NeighborListInput input{positions.data(),
                                cells.data(),
                                pbc.data(),
                                ptr.data(),
                                static_cast<int64_t>(positions.shape(0)),
                                static_cast<int64_t>(ptr.shape(0)) - 1,
                                cells.ndim() == 2,
                                pbc.ndim() == 1,
                                cutoffs.data(),
                                cutoffs.ndim() == 0,
                                half,
                                self_pairs};
  const Parallel parallel = num_threads == 1 ? serial() : with_std_threads(num_threads);
  std::unique_ptr<NeighborSearch> search;
  {
    const py::gil_scoped_release release;
    search.reset(new NeighborSearch(input, parallel));
  }
  const py::ssize_t num_bonds = search->num_bonds();
  Lists lists{py::array_t<int64_t>({py::ssize_t{2}, num_bonds}), py::array_t<int32_t>({num_bonds, py::ssize_t{3}}),
              py::array_t<int64_t>(positions.shape(0) + 1)};
  const NeighborListOutput output{lists.pairs.mutable_data(), lists.pairs.mutable_data() + num_bonds,
                                  lists.shifts.mutable_data(), lists.row_ptr.mutable_data()};
  {
    const py::gil_scoped_release release;
    search->write_bonds(output, parallel);
    search.reset();
  }
  return lists;
}

// d = (r_j - r_i) + ((S0*a + S1*b) + S2*c) of each bond, as in the criterion, and |d|.
py::tuple bond_geometry(const Array<double>& positions, const Array<double>& cells, const Array<int64_t>& ptr,
                        const Lists& lists) {
  const py::ssize_t num_bonds = lists.shifts.shape(0), num_crystals = ptr.shape(0) - 1;
  py::array_t<double> vectors({num_bonds, py::ssize_t{3}}), lengths(num_bonds);
  const int64_t* row_ptr = lists.row_ptr.data();
  const int64_t* neighbors = lists.pairs.data() + num_bonds;
  double *vector = vectors.mutable_data(), *length = lengths.mutable_data();
  const int32_t* shift = lists.shifts.data();
  for (py::ssize_t b = 0; b < num_crystals; ++b) {
    const double* cell = cells.data() + (cells.ndim() == 2 ? 0 : 9 * b);
    for (int64_t i = ptr.data()[b]; i < ptr.data()[b + 1]; ++i) {
      const double* center = positions.data() + 3 * i;
      for (int64_t bond = row_ptr[i]; bond < row_ptr[i + 1]; ++bond, vector += 3, shift += 3) {
        const double* neighbor = positions.data() + 3 * neighbors[bond];
        for (int x = 0; x < 3; ++x)
          vector[x] =
              (neighbor[x] - center[x]) + ((shift[0] * cell[x] + shift[1] * cell[3 + x]) + shift[2] * cell[6 + x]);
        *length++ = std::sqrt((vector[0] * vector[0] + vector[1] * vector[1]) + vector[2] * vector[2]);
      }
    }
  }
  return py::make_tuple(lengths, vectors);
}

py::tuple neighbor_list_arrays(const Array<double>& positions, const Array<double>& cells, const Array<bool>& pbc,
                               const Array<int64_t>& ptr, const Array<double>& cutoffs, bool half, bool self_pairs,
                               int num_threads, bool geometry) {
  const Lists lists = neighbor_list(positions, cells, pbc, ptr, cutoffs, half, self_pairs, num_threads);
  if (!geometry) return py::make_tuple(lists.pairs, lists.shifts, py::none(), py::none());
  const py::tuple lengths_vectors = bond_geometry(positions, cells, ptr, lists);
  return py::make_tuple(lists.pairs, lists.shifts, lengths_vectors[0], lengths_vectors[1]);
}

}  // namespace
}  // namespace dtnn

PYBIND11_MODULE(_core, module) {
  module.doc() = "Compiled part of dtnn_fast.numpy; arguments are checked there.";
  module.def("neighbor_list", &dtnn::neighbor_list_arrays, py::arg("positions").noconvert(),
             py::arg("cells").noconvert(), py::arg("pbc").noconvert(), py::arg("ptr").noconvert(),
             py::arg("cutoffs").noconvert(), py::arg("half"), py::arg("self_pairs"), py::arg("num_threads"),
             py::arg("geometry"),
             "Returns pairs [2, E], shifts [E, 3], and with geometry lengths [E] and vectors [E, 3], else None twice.");
  dtnn::add_crystal_functions(module);
}
