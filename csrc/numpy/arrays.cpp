// SPDX-License-Identifier: MIT
// The one file that sees NumPy's headers. They work with Python's limited API, and what is compiled with those of NumPy
// 2 runs on every version from 1.23.
#include "arrays.h"

#include <type_traits>

#define NPY_NO_DEPRECATED_API NPY_1_23_API_VERSION
#include <numpy/arrayobject.h>

namespace dtnn {
namespace {

static_assert(std::is_same_v<npy_intp, int64_t>, "shapes of NumPy are read as int64_t");

int type_number(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat64:
      return NPY_FLOAT64;
    case Dtype::kInt64:
      return NPY_INT64;
    case Dtype::kInt32:
      return NPY_INT32;
    default:
      return NPY_BOOL;
  }
}

PyArrayObject* as_array(PyObject* object) { return reinterpret_cast<PyArrayObject*>(object); }

[[noreturn]] void fail_view(PyObject* object, Dtype dtype, const Argument& argument) {
  std::string actual = type_name(object);
  if (PyArray_Check(object)) {
    actual = "dtype " + text_of(reinterpret_cast<PyObject*>(PyArray_DESCR(as_array(object))));
    if (!PyArray_IS_C_CONTIGUOUS(as_array(object))) actual += ", not contiguous";
  }
  throw TypeError(std::string(argument.function) + ": expected `" + argument.name +
                  "` as C-contiguous array of dtype " + name_of(dtype) + ", got " + actual);
}

}  // namespace

void import_numpy() {
  if (PyArray_ImportNumPyAPI() < 0) throw PythonError();
}

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat64:
      return "float64";
    case Dtype::kInt64:
      return "int64";
    case Dtype::kInt32:
      return "int32";
    default:
      return "bool";
  }
}

ArrayView view_array(PyObject* object, Dtype dtype, const Argument& argument) {
  if (!PyArray_Check(object)) fail_view(object, dtype, argument);
  PyArrayObject* array = as_array(object);
  const int type = PyArray_TYPE(array), expected = type_number(dtype);
  // `long long` is int64 too.
  const bool is_same = type == expected || PyArray_EquivTypenums(type, expected);
  if (!is_same || !PyArray_ISNOTSWAPPED(array) || !PyArray_IS_C_CONTIGUOUS(array)) fail_view(object, dtype, argument);
  ArrayView view;
  if (!PyArray_ISALIGNED(array)) {
    view.owner = Reference(PyArray_FromArray(array, nullptr, NPY_ARRAY_CARRAY_RO));
    array = as_array(view.owner.get());
  }
  view.data = PyArray_DATA(array);
  view.lengths = PyArray_DIMS(array);
  view.num_dimensions = PyArray_NDIM(array);
  return view;
}

Reference empty_array(Dtype dtype, std::initializer_list<int64_t> shape) {
  return Reference(PyArray_SimpleNew(static_cast<int>(shape.size()), shape.begin(), type_number(dtype)));
}

void* array_data(PyObject* array) { return PyArray_DATA(as_array(array)); }

}  // namespace dtnn
