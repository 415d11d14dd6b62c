// SPDX-License-Identifier: MIT
// Argument checks of the operations. Every message has the form
//   <op>: expected `<argument>` <what is right>, got <what came>
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>

// Throws a message for people; torch turns it into a RuntimeError. Not STD_TORCH_CHECK, which puts the name of a C++
// function and the path of its source file before the message.
#define DTNN_CHECK(condition, ...)                                               \
  do {                                                                           \
    if (!(condition)) throw std::runtime_error(::dtnn::message_of(__VA_ARGS__)); \
  } while (false)

namespace dtnn {

// Values in messages. Not std::ostringstream: a program may hold a second copy of libstdc++ (a compiler that links it
// statically), and the facets with which streams print numbers are then taken from the wrong one.
inline void append_to(std::string& text, const char* value) { text += value; }
inline void append_to(std::string& text, const std::string& value) { text += value; }
inline void append_to(std::string& text, double value) {
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%g", value);
  text += digits;
}
template <typename Integer, typename = std::enable_if_t<std::is_integral_v<Integer>>>
void append_to(std::string& text, Integer value) {
  text += std::to_string(value);
}

template <typename... Values>
std::string message_of(const Values&... values) {
  std::string text;
  (append_to(text, values), ...);
  return text;
}

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A wildcard in an expected shape.
constexpr int64_t kAny = -1;

inline std::string describe_shape(const Tensor& tensor) {
  std::string text = "[";
  for (int64_t d = 0; d < tensor.dim(); ++d) text += (d ? ", " : "") + std::to_string(tensor.size(d));
  return text + "]";
}

inline const char* describe_dtype(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Bool:
      return "bool";
    default:
      return "another dtype";
  }
}

// For None, which reaches the kernels as an undefined tensor.
inline void check_defined(const char* op, const char* name, const Tensor& tensor) {
  DTNN_CHECK(tensor.defined(), op, ": expected `", name, "` to be a tensor, got None");
}

inline void check_dtype(const char* op, const char* name, const Tensor& tensor, ScalarType wanted) {
  check_defined(op, name, tensor);
  DTNN_CHECK(tensor.scalar_type() == wanted, op, ": expected `", name, "` of dtype ", describe_dtype(wanted), ", got ",
             describe_dtype(tensor.scalar_type()));
}

inline void check_floating(const char* op, const char* name, const Tensor& tensor) {
  check_defined(op, name, tensor);
  const ScalarType type = tensor.scalar_type();
  DTNN_CHECK(type == ScalarType::Float || type == ScalarType::Double, op, ": expected `", name,
             "` of dtype float32 or float64, got ", describe_dtype(type));
}

// For operations that add 16-bit values in float32.
inline void check_floating_or_16_bits(const char* op, const char* name, const Tensor& tensor) {
  check_defined(op, name, tensor);
  const ScalarType type = tensor.scalar_type();
  DTNN_CHECK(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
                 type == ScalarType::BFloat16,
             op, ": expected `", name, "` of dtype float32, float64, float16 or bfloat16, got ", describe_dtype(type));
}

inline void check_same_dtype(const char* op, const char* name, const Tensor& tensor, const char* other_name,
                             const Tensor& other) {
  check_defined(op, name, tensor);
  DTNN_CHECK(tensor.scalar_type() == other.scalar_type(), op, ": expected `", name, "` of the dtype of `", other_name,
             "` (", describe_dtype(other.scalar_type()), "), got ", describe_dtype(tensor.scalar_type()));
}

inline void check_same_device(const char* op, const char* name, const Tensor& tensor, const char* other_name,
                              const Tensor& other) {
  const bool same = tensor.device() == other.device();
  DTNN_CHECK(same, op, ": expected `", name, "` on the device of `", other_name, "` (",
             other.is_cuda() ? "cuda" : "cpu", "), got ", tensor.is_cuda() ? "cuda" : "cpu");
}

// `wanted` is the shape for the message; `sizes` the same in numbers, kAny for a free dimension.
inline void check_shape(const char* op, const char* name, const Tensor& tensor, const char* wanted,
                        std::initializer_list<int64_t> sizes) {
  bool fits = tensor.dim() == static_cast<int64_t>(sizes.size());
  int64_t d = 0;
  for (int64_t size : sizes) {
    if (!fits) break;
    fits = size == kAny || tensor.size(d) == size;
    ++d;
  }
  DTNN_CHECK(fits, op, ": expected `", name, "` of shape ", wanted, ", got ", describe_shape(tensor));
}

}  // namespace dtnn
