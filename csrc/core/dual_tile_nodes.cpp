// SPDX-License-Identifier: MIT
// The nodes of tile programs in dual numbers, which stand in memory as pairs. Compiled with -ffp-contract=fast
// (CMakeLists.txt).
#include "core/dual.h"
#include "core/node_kinds.h"
#include "core/simd_level.h"

namespace dtnn {

DTNN_SIMD_VERSIONS(void, run_node_forward, forward_of_any_kind<0>,
                   (TileNodeKind kind, const NodeForward<Dual<float>>& node), (kind, node))
DTNN_SIMD_VERSIONS(void, run_node_forward, forward_of_any_kind<0>,
                   (TileNodeKind kind, const NodeForward<Dual<double>>& node), (kind, node))
DTNN_SIMD_VERSIONS(void, run_node_backward, backward_of_any_kind<0>,
                   (TileNodeKind kind, const NodeBackward<Dual<float>>& node), (kind, node))
DTNN_SIMD_VERSIONS(void, run_node_backward, backward_of_any_kind<0>,
                   (TileNodeKind kind, const NodeBackward<Dual<double>>& node), (kind, node))

}  // namespace dtnn
