// SPDX-License-Identifier: MIT
// C++ functions as functions of a Python module: a table of names, from which arguments, messages and docstrings
// follow.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.h"
#include "python.h"

namespace dtnn {

// How an argument of the C++ type T is read from Python, and how the docstring calls it.
template <typename T>
struct Converter;

template <typename T>
struct Converter<Array<T>> {
  static std::string type() { return std::string("numpy.typing.NDArray[numpy.") + name_of(DtypeOf<T>::value) + "]"; }
  static Array<T> convert(PyObject* object, const Argument& argument) { return Array<T>(object, argument); }
};

[[noreturn]] inline void fail_argument(const Argument& argument, const char* expected, PyObject* object) {
  throw TypeError(std::string(argument.function) + ": expected `" + argument.name + "` as " + expected + ", got " +
                  type_name(object));
}

// After a failed conversion: an object of the wrong type or size becomes our own message, other errors stay.
inline void check_conversion(const Argument& argument, const char* expected, PyObject* object) {
  if (!PyErr_Occurred()) return;
  if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_OverflowError)) throw PythonError();
  PyErr_Clear();
  fail_argument(argument, expected, object);
}

template <>
struct Converter<double> {
  static std::string type() { return "float"; }
  static double convert(PyObject* object, const Argument& argument) {
    const double value = PyFloat_AsDouble(object);
    if (value == -1.0) check_conversion(argument, "float", object);
    return value;
  }
};

template <>
struct Converter<int64_t> {
  static std::string type() { return "int"; }
  static int64_t convert(PyObject* object, const Argument& argument) {
    PyObject* const index = PyNumber_Index(object);  // integers of NumPy too, but no floats
    check_conversion(argument, "int", object);
    const int64_t value = PyLong_AsLongLong(Reference(index).get());
    if (value == -1) check_conversion(argument, "int of 64 bits", object);
    return value;
  }
};

template <>
struct Converter<bool> {
  static std::string type() { return "bool"; }
  static bool convert(PyObject* object, const Argument& argument) {
    if (object != Py_True && object != Py_False) fail_argument(argument, "bool", object);
    return object == Py_True;
  }
};

struct FunctionNames {
  const char* name;
  std::vector<const char*> arguments;
  std::string doc;
};

// The given objects in the order of the names. Throws TypeError for missing, unknown and repeated ones.
std::vector<PyObject*> arguments_in_order(const FunctionNames& names, PyObject* const* given, Py_ssize_t num_positional,
                                          PyObject* keywords);

namespace detail {

template <auto function>
FunctionNames names_of;  // filled in by `define`

template <typename... Types, std::size_t... places>
Reference call(Reference (*function)(Types...), const FunctionNames& names, PyObject* const* objects,
               std::index_sequence<places...>) {
  // Braces, so that the first bad argument is the one that is named.
  const std::tuple<std::decay_t<Types>...> converted{
      Converter<std::decay_t<Types>>::convert(objects[places], {names.name, names.arguments[places]})...};
  return std::apply(function, converted);
}

template <auto function, typename... Types>
PyObject* entry(PyObject*, PyObject* const* given, Py_ssize_t num_positional, PyObject* keywords) {
  const FunctionNames& names = names_of<function>;
  return call_with_python_errors([&] {
    constexpr std::index_sequence_for<Types...> places;
    if (!keywords && num_positional == sizeof...(Types)) return call(function, names, given, places);
    return call(function, names, arguments_in_order(names, given, num_positional, keywords).data(), places);
  });
}

template <auto function, typename... Types>
PyMethodDef define(Reference (*)(Types...), const char* name, std::vector<const char*> arguments, const char* doc) {
  const std::string types[] = {Converter<std::decay_t<Types>>::type()...};
  std::string text = std::string(name) + "(";
  for (std::size_t k = 0; k < sizeof...(Types); ++k)
    text += (k ? ", " : "") + std::string(arguments.at(k)) + ": " + types[k];
  names_of<function> = {name, std::move(arguments), text + ")\n\n" + doc};
  PyObject* (*const called)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*) = &entry<function, Types...>;
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(called)), METH_FASTCALL | METH_KEYWORDS,
          names_of<function>.doc.c_str()};
}

}  // namespace detail

// A definition of the C++ function under this name, with a name for each of its arguments.
template <auto function>
PyMethodDef define(const char* name, std::vector<const char*> arguments, const char* doc) {
  return detail::define<function>(function, name, std::move(arguments), doc);
}

}  // namespace dtnn
