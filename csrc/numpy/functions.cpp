// SPDX-License-Identifier: MIT
#include "functions.h"

namespace dtnn {

std::vector<PyObject*> arguments_in_order(const FunctionNames& names, PyObject* const* given, Py_ssize_t num_positional,
                                          PyObject* keywords) {
  const std::string function = names.name;
  const auto num_arguments = static_cast<Py_ssize_t>(names.arguments.size());
  if (num_positional > num_arguments)
    throw TypeError(function + ": expected at most " + std::to_string(num_arguments) + " arguments, got " +
                    std::to_string(num_positional));
  std::vector<PyObject*> objects(given, given + num_positional);
  objects.resize(num_arguments);
  const Py_ssize_t num_keywords = keywords ? PyTuple_Size(keywords) : 0;
  for (Py_ssize_t k = 0; k < num_keywords; ++k) {
    const std::string keyword = text_of(PyTuple_GetItem(keywords, k));
    Py_ssize_t place = 0;
    while (place < num_arguments && keyword != names.arguments[place]) ++place;
    if (place == num_arguments) throw TypeError(function + ": got an unknown argument `" + keyword + "`");
    if (objects[place]) throw TypeError(function + ": got `" + keyword + "` twice");
    objects[place] = given[num_positional + k];
  }
  for (Py_ssize_t k = 0; k < num_arguments; ++k)
    if (!objects[k]) throw TypeError(function + ": expected `" + names.arguments[k] + "`, which is missing");
  return objects;
}

}  // namespace dtnn
