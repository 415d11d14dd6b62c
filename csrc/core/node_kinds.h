// SPDX-License-Identifier: MIT
// A node of a tile program of any kind. Included by tile_nodes.cpp and dual_tile_nodes.cpp alone.
#pragma once

#include "core/node_functions.h"
#include "core/node_norms.h"
#include "core/node_tensors.h"

namespace dtnn {
namespace {

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void forward_of_any_kind(TileNodeKind kind, const NodeForward<T>& node) {
  switch (kind) {
    case TileNodeKind::kLinear:
      return;  // a product: see TileRunner
    case TileNodeKind::kSilu:
      return silu_forward<bytes>(node);
    case TileNodeKind::kNorm:
      if (node.in_components == 1) return norm_rows<1>(node);
      return node.in_components == 3 ? norm_rows<3>(node) : norm_rows<6>(node);
    case TileNodeKind::kGate:
      return gate_forward<bytes>(node);
    case TileNodeKind::kAdd:
      return add_forward(node);
    case TileNodeKind::kAtomTensor:
      return atom_tensor_forward(node);
    case TileNodeKind::kLayerNorm:
      return layer_norm_forward(node);
    case TileNodeKind::kSoftScale:
      return soft_scale_forward(node);
    case TileNodeKind::kScaleRows:
      return scale_rows_forward(node);
    case TileNodeKind::kTimesVector:
      return times_vector_forward(node);
    case TileNodeKind::kTrace:
      return trace_forward(node);
    case TileNodeKind::kDot:
      return dot_forward(node);
    case TileNodeKind::kSquare:
      return square_forward(node);
    case TileNodeKind::kGatedSum:
      return gated_sum_forward(node);
    case TileNodeKind::kTraceless:
      return traceless_forward(node);
  }
}

template <int bytes, typename T>
DTNN_ALWAYS_INLINE void backward_of_any_kind(TileNodeKind kind, const NodeBackward<T>& node) {
  switch (kind) {
    case TileNodeKind::kLinear:
      return;
    case TileNodeKind::kSilu:
      return silu_backward<bytes>(node);
    case TileNodeKind::kNorm:
      if (node.in_components == 1) return norm_rows_backward<1>(node);
      return node.in_components == 3 ? norm_rows_backward<3>(node) : norm_rows_backward<6>(node);
    case TileNodeKind::kGate:
      return gate_backward<bytes>(node);
    case TileNodeKind::kAdd:
      return add_backward(node);
    case TileNodeKind::kAtomTensor:
      return atom_tensor_backward(node);
    case TileNodeKind::kLayerNorm:
      return layer_norm_backward(node);
    case TileNodeKind::kSoftScale:
      return soft_scale_backward(node);
    case TileNodeKind::kScaleRows:
      return scale_rows_backward(node);
    case TileNodeKind::kTimesVector:
      return times_vector_backward(node);
    case TileNodeKind::kTrace:
      return trace_backward(node);
    case TileNodeKind::kDot:
      return dot_backward(node);
    case TileNodeKind::kSquare:
      return square_backward(node);
    case TileNodeKind::kGatedSum:
      return gated_sum_backward(node);
    case TileNodeKind::kTraceless:
      return traceless_backward(node);
  }
}

}  // namespace
}  // namespace dtnn
