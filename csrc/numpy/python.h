// SPDX-License-Identifier: MIT
// Python objects from C++: references, tuples, errors and the interpreter's lock. Only the limited API of Python 3.11
// (Py_LIMITED_API, set by CMake), so that one binary serves every later version.
#pragma once

#include <Python.h>

#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace dtnn {

// Thrown where Python's own error indicator is set already.
struct PythonError {};

// A reference that this object owns.
class Reference {
 public:
  Reference() = default;
  // Takes over a new reference; null means that the call which made it failed.
  explicit Reference(PyObject* object) : object_(object) {
    if (!object) throw PythonError();
  }
  Reference(Reference&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Reference& operator=(Reference&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Reference() { Py_DecRef(object_); }

  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }

 private:
  PyObject* object_ = nullptr;
};

inline Reference none() {
  Py_IncRef(Py_None);
  return Reference(Py_None);
}
inline Reference to_python(Reference object) { return object; }
inline Reference to_python(int64_t value) { return Reference(PyLong_FromLongLong(value)); }
inline Reference to_python(double value) { return Reference(PyFloat_FromDouble(value)); }

template <typename... Values>
Reference make_tuple(Values&&... values) {
  const Reference items[] = {to_python(std::forward<Values>(values))...};
  Reference tuple(PyTuple_New(sizeof...(values)));
  Py_ssize_t place = 0;
  for (const Reference& item : items) {
    Py_IncRef(item.get());  // PyTuple_SetItem takes over a reference
    if (PyTuple_SetItem(tuple.get(), place++, item.get()) != 0) throw PythonError();
  }
  return tuple;
}

// Other Python threads run for as long as this object lives, which may not touch Python objects meanwhile.
class ReleasedGil {
 public:
  ReleasedGil() : state_(PyEval_SaveThread()) {}
  ReleasedGil(const ReleasedGil&) = delete;
  ~ReleasedGil() { PyEval_RestoreThread(state_); }

 private:
  PyThreadState* state_;
};

// The text of `str(object)`, for messages.
inline std::string text_of(PyObject* object) {
  const Reference text(PyObject_Str(object));
  Py_ssize_t size = 0;
  const char* const characters = PyUnicode_AsUTF8AndSize(text.get(), &size);
  if (!characters) throw PythonError();
  return {characters, static_cast<std::size_t>(size)};
}

inline std::string type_name(PyObject* object) { return text_of(Reference(PyType_GetName(Py_TYPE(object))).get()); }

// Raises Python's TypeError.
class TypeError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The result of `body()` as a new reference, or null with the Python error that its C++ exception stands for.
template <typename Body>
PyObject* call_with_python_errors(const Body& body) noexcept {
  try {
    return body().release();
  } catch (const PythonError&) {  // is set
  } catch (const TypeError& error) {
    PyErr_SetString(PyExc_TypeError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::length_error& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

}  // namespace dtnn
