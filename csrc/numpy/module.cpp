// SPDX-License-Identifier: MIT
// The NumPy module: the torch-free core behind dtnn_fast.numpy, which checks shapes and dtypes before it calls.
#include <cmath>
#include <memory>

#include "core/neighbor_list.h"
#include "crystals.h"

namespace dtnn {
namespace {

struct Lists {
  NewArray<int64_t> pairs;  // [2, E]
  NewArray<int32_t> shifts;
  NewArray<int64_t> row_ptr;
  int64_t num_bonds;
};

Lists find_bonds(const NeighborListInput& input, int num_threads) {
  const Parallel parallel = num_threads == 1 ? serial() : with_std_threads(num_threads);
  std::unique_ptr<NeighborSearch> search;
  {
    const ReleasedGil released;
    search.reset(new NeighborSearch(input, parallel));
  }
  const int64_t num_bonds = search->num_bonds();
  Lists lists{NewArray<int64_t>({2, num_bonds}), NewArray<int32_t>({num_bonds, 3}),
              NewArray<int64_t>({input.num_atoms + 1}), num_bonds};
  const NeighborListOutput output{lists.pairs.data(), lists.pairs.data() + num_bonds, lists.shifts.data(),
                                  lists.row_ptr.data()};
  {
    const ReleasedGil released;
    search->write_bonds(output, parallel);
    search.reset();
  }
  return lists;
}

struct Geometry {
  NewArray<double> lengths;  // [E]
  NewArray<double> vectors;  // [E, 3]
};

// d = (r_j - r_i) + ((S0*a + S1*b) + S2*c) of each bond, as in the criterion, and |d|.
Geometry bond_geometry(const NeighborListInput& input, const Lists& lists) {
  Geometry geometry{NewArray<double>({lists.num_bonds}), NewArray<double>({lists.num_bonds, 3})};
  const ReleasedGil released;
  const int64_t* row_ptr = lists.row_ptr.data();
  const int64_t* neighbors = lists.pairs.data() + lists.num_bonds;
  double *vector = geometry.vectors.data(), *length = geometry.lengths.data();
  const int32_t* shift = lists.shifts.data();
  for (int64_t b = 0; b < input.num_crystals; ++b) {
    const double* cell = input.cells + (input.shared_cell ? 0 : 9 * b);
    for (int64_t i = input.ptr[b]; i < input.ptr[b + 1]; ++i) {
      const double* center = input.positions + 3 * i;
      for (int64_t bond = row_ptr[i]; bond < row_ptr[i + 1]; ++bond, vector += 3, shift += 3) {
        const double* neighbor = input.positions + 3 * neighbors[bond];
        for (int x = 0; x < 3; ++x)
          vector[x] =
              (neighbor[x] - center[x]) + ((shift[0] * cell[x] + shift[1] * cell[3 + x]) + shift[2] * cell[6 + x]);
        *length++ = std::sqrt((vector[0] * vector[0] + vector[1] * vector[1]) + vector[2] * vector[2]);
      }
    }
  }
  return geometry;
}

Reference neighbor_list(const Array<double>& positions, const Array<double>& cells, const Array<bool>& pbc,
                        const Array<int64_t>& ptr, const Array<double>& cutoffs, bool half, bool self_pairs,
                        int64_t num_threads, bool geometry) {
  positions.expect_shape({kAny, 3}, "[N, 3]");
  const int64_t num_atoms = positions.shape(0), num_crystals = count_crystals(ptr, num_atoms);
  if (!cells.has_shape({3, 3})) cells.expect_shape({num_crystals, 3, 3}, "[3, 3] or [B, 3, 3]");
  if (!pbc.has_shape({3})) pbc.expect_shape({num_crystals, 3}, "[3] or [B, 3]");
  if (!cutoffs.has_shape({})) cutoffs.expect_shape({num_crystals}, "[] or [B]");
  const NeighborListInput input{
      positions.data(),  cells.data(),    pbc.data(),     ptr.data(),          num_atoms, num_crystals,
      cells.ndim() == 2, pbc.ndim() == 1, cutoffs.data(), cutoffs.ndim() == 0, half,      self_pairs};
  Lists lists = find_bonds(input, static_cast<int>(num_threads));
  if (!geometry) return make_tuple(std::move(lists.pairs), std::move(lists.shifts), none(), none());
  Geometry bonds = bond_geometry(input, lists);
  return make_tuple(std::move(lists.pairs), std::move(lists.shifts), std::move(bonds.lengths),
                    std::move(bonds.vectors));
}

std::vector<PyMethodDef> definitions() {
  std::vector<PyMethodDef> all = crystal_functions();
  all.push_back(define<&neighbor_list>(
      "neighbor_list", {"positions", "cells", "pbc", "ptr", "cutoffs", "half", "self_pairs", "num_threads", "geometry"},
      "Returns pairs [2, E], shifts [E, 3], and with geometry lengths [E] and vectors [E, 3], else None twice."));
  all.push_back({});  // ends the table
  return all;
}

int execute(PyObject* module) {
  PyObject* const done = call_with_python_errors([&] {
    import_numpy();
    static std::vector<PyMethodDef> functions = definitions();  // Python keeps pointers to them
    if (PyModule_AddFunctions(module, functions.data()) != 0) throw PythonError();
    return none();
  });
  Py_DecRef(done);
  return done ? 0 : -1;
}

PyModuleDef_Slot slots[] = {{Py_mod_exec, reinterpret_cast<void*>(&execute)}, {0, nullptr}};
PyModuleDef module_definition = {PyModuleDef_HEAD_INIT,
                                 "_core",
                                 "Compiled part of dtnn_fast.numpy; arguments are checked there.",
                                 0,
                                 nullptr,
                                 slots,
                                 nullptr,
                                 nullptr,
                                 nullptr};

}  // namespace
}  // namespace dtnn

PyMODINIT_FUNC PyInit__core() { return PyModuleDef_Init(&dtnn::module_definition); }
