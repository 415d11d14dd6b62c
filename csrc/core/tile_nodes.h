// SPDX-License-Identifier: MIT
// The steps of a tile program that are no matrix products: elementwise functions, norms and small tensor algebra.
#pragma once

#include <array>
#include <cstdint>

#include "core/dual.h"
#include "core/tile_program.h"

namespace dtnn {

// Values [rows, components, channels] of a node; `in_components` and `in_channels` are those of in[0].
template <typename T>
struct NodeForward {
  int64_t rows;
  int64_t components;
  int64_t channels;
  T eps;
  T* out;
  std::array<const T*, 5> in;
  int64_t in_components;
  int64_t in_channels;
};

// The gradients of the inputs are added to grad_in, which is null where none is needed.
template <typename T>
struct NodeBackward {
  int64_t rows;
  int64_t components;
  int64_t channels;
  T eps;
  const T* out;
  const T* grad;
  std::array<const T*, 5> in;
  std::array<T*, 5> grad_in;
  int64_t in_components;
  int64_t in_channels;
};

void run_node_forward(TileNodeKind kind, const NodeForward<float>& node);
void run_node_forward(TileNodeKind kind, const NodeForward<double>& node);
void run_node_forward(TileNodeKind kind, const NodeForward<Dual<float>>& node);
void run_node_forward(TileNodeKind kind, const NodeForward<Dual<double>>& node);
void run_node_backward(TileNodeKind kind, const NodeBackward<float>& node);
void run_node_backward(TileNodeKind kind, const NodeBackward<double>& node);
void run_node_backward(TileNodeKind kind, const NodeBackward<Dual<float>>& node);
void run_node_backward(TileNodeKind kind, const NodeBackward<Dual<double>>& node);

// out [rows, channels], every row equal to `row`.
void fill_rows_with(const float* row, int64_t rows, int64_t channels, float* out);
void fill_rows_with(const double* row, int64_t rows, int64_t channels, double* out);

// sums [channels] += the sum over the rows of x.
void add_column_sums(const float* x, int64_t rows, int64_t channels, float* sums);
void add_column_sums(const double* x, int64_t rows, int64_t channels, double* sums);

// A product with one column, for which the matrix products have no vectors: out [rows] = (out +) x [rows, depth] times
// column [depth].
void add_dots(const float* x, const float* column, int64_t rows, int64_t depth, bool accumulate, float* out);
void add_dots(const double* x, const double* column, int64_t rows, int64_t depth, bool accumulate, double* out);

// Its gradient of the column: sums [depth] += the sum over the rows of factors [rows] times x [rows, depth].
void add_scaled_rows(const float* x, const float* factors, int64_t rows, int64_t depth, float* sums);
void add_scaled_rows(const double* x, const double* factors, int64_t rows, int64_t depth, double* sums);

}  // namespace dtnn
