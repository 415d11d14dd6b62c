// SPDX-License-Identifier: MIT
// NumPy arrays as arguments and results of C++ functions, through NumPy's own C API.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "python.h"

namespace dtnn {

// Connects with the NumPy of this process; once, before all others.
void import_numpy();

enum class Dtype { kFloat64, kInt64, kInt32, kBool };
const char* name_of(Dtype dtype);  // as NumPy calls it

// Stands for any length in a shape.
constexpr int64_t kAny = -1;

// What is known of an array at run time.
struct ArrayView {
  Reference owner;  // of an aligned copy; else empty, as the caller of the Python function keeps the array alive
  const void* data = nullptr;
  const int64_t* lengths = nullptr;
  int num_dimensions = 0;
};

// Names an argument in messages.
struct Argument {
  const char* function;
  const char* name;
};

// Throws TypeError for other objects than C-contiguous arrays of the dtype in the machine's byte order, also where they
// could be converted: that is up to Python. Read-only arrays are good, and unaligned ones are copied.
ArrayView view_array(PyObject* object, Dtype dtype, const Argument& argument);
// A new array, not initialised.
Reference empty_array(Dtype dtype, std::initializer_list<int64_t> shape);
// Where its numbers are.
void* array_data(PyObject* array);

template <typename T>
struct DtypeOf;
template <>
struct DtypeOf<double> {
  static constexpr Dtype value = Dtype::kFloat64;
};
template <>
struct DtypeOf<int64_t> {
  static constexpr Dtype value = Dtype::kInt64;
};
template <>
struct DtypeOf<int32_t> {
  static constexpr Dtype value = Dtype::kInt32;
};
template <>
struct DtypeOf<bool> {
  static constexpr Dtype value = Dtype::kBool;
};

// An argument: read only.
template <typename T>
class Array {
 public:
  Array(PyObject* object, const Argument& argument)
      : view_(view_array(object, DtypeOf<T>::value, argument)), argument_(argument) {}

  const T* data() const { return static_cast<const T*>(view_.data); }
  int ndim() const { return view_.num_dimensions; }
  int64_t shape(int dimension) const { return view_.lengths[dimension]; }

  bool has_shape(std::initializer_list<int64_t> shape) const {
    if (view_.num_dimensions != static_cast<int>(shape.size())) return false;
    const int64_t* length = view_.lengths;
    for (const int64_t expected : shape)
      if (const int64_t actual = *length++; expected != kAny && actual != expected) return false;
    return true;
  }
  // Throws std::invalid_argument for another shape; `described` is its text.
  void expect_shape(std::initializer_list<int64_t> shape, const char* described) const {
    if (!has_shape(shape)) fail(std::string("of shape ") + described, text_of_shape());
  }
  [[noreturn]] void fail(const std::string& expected, const std::string& actual) const {
    throw std::invalid_argument(std::string(argument_.function) + ": expected `" + argument_.name + "` " + expected +
                                ", got " + actual);
  }

 private:
  std::string text_of_shape() const {
    std::string text;
    for (int k = 0; k < ndim(); ++k) text += (k ? ", " : "") + std::to_string(shape(k));
    return "[" + text + "]";
  }

  ArrayView view_;
  Argument argument_;
};

// A result, made with the interpreter's lock held; its numbers may be written without it.
template <typename T>
class NewArray {
 public:
  explicit NewArray(std::initializer_list<int64_t> shape)
      : array_(empty_array(DtypeOf<T>::value, shape)), data_(static_cast<T*>(array_data(array_.get()))) {}

  T* data() const { return data_; }
  Reference release() { return std::move(array_); }

 private:
  Reference array_;
  T* data_;
};

template <typename T>
Reference to_python(NewArray<T>&& array) {
  return array.release();
}

}  // namespace dtnn
