// SPDX-License-Identifier: MIT
#include "tile_steps.h"

#include <algorithm>

namespace dtnn {
namespace {

size_t at(TileValueId id) { return static_cast<size_t>(id); }

// Calls visit(id) for all that a node reads.
template <typename Visit>
void for_each_read(const TileNode& node, const Visit& visit) {
  for (TileValueId id : node.in) {
    if (id != kNoTileValue) visit(id);
  }
  for (const LinearTerm& term : node.terms) visit(term.x);
}

// Inputs of a node that its output may replace: of each element its thread reads this one alone, and before it writes.
std::vector<int> replaceable_inputs(TileNodeKind kind) {
  switch (kind) {
    case TileNodeKind::kSilu:
    case TileNodeKind::kLayerNorm:
    case TileNodeKind::kScaleRows:
    case TileNodeKind::kTraceless:
      return {0};
    case TileNodeKind::kAdd:
      return {0, 1};
    case TileNodeKind::kGate:
      return {1, 2};
    case TileNodeKind::kGatedSum:
      return {1, 3, 4};
    default:
      return {};
  }
}

// Memory of one value, or of values that replace each other, from its first to its last use.
struct Buffer {
  int64_t first;
  int64_t last;
  int64_t size;
  int64_t offset;
};

// The lowest places that no buffer of the same time occupies; large ones choose first. Returns the size of all.
int64_t place_buffers(std::vector<Buffer>& buffers) {
  std::vector<size_t> order(buffers.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return buffers[a].size > buffers[b].size; });
  int64_t all = 0;
  std::vector<Buffer> placed;  // by offset
  for (size_t i : order) {
    Buffer& buffer = buffers[i];
    buffer.offset = 0;
    for (const Buffer& other : placed) {
      if (other.first > buffer.last || buffer.first > other.last) continue;
      if (buffer.offset + buffer.size <= other.offset) break;
      buffer.offset = std::max(buffer.offset, other.offset + other.size);
    }
    const auto after = [](const Buffer& x, const Buffer& y) { return x.offset < y.offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), buffer, after), buffer);
    all = std::max(all, buffer.offset + buffer.size);
  }
  return all;
}

// The number of the node that reads a value last, or that makes it where none reads it.
std::vector<int64_t> last_uses(const TileProgram& program) {
  std::vector<int64_t> last(program.values().size(), -1);
  for (size_t n = 0; n < program.nodes().size(); ++n) {
    last[at(program.nodes()[n].out)] = static_cast<int64_t>(n);
    for_each_read(program.nodes()[n], [&](TileValueId id) { last[at(id)] = static_cast<int64_t>(n); });
  }
  return last;
}

// Gives every value between inputs and outputs its offset; returns the numbers of a row.
int64_t place_values(const TileProgram& program, std::vector<TilePlace>& places) {
  const std::vector<int64_t> last = last_uses(program);
  const auto padded = [&](TileValueId id) {
    return std::max<int64_t>(4, (program.values()[at(id)].per_row() + 3) / 4 * 4);
  };
  std::vector<Buffer> buffers;
  std::vector<int> buffer_of(program.values().size(), -1);  // -1: in device memory
  for (size_t n = 0; n < program.nodes().size(); ++n) {
    const TileNode& node = program.nodes()[n];
    if (program.values()[at(node.out)].output >= 0) continue;
    int& buffer = buffer_of[at(node.out)];
    for (int place : replaceable_inputs(node.kind)) {
      const TileValueId id = node.in[at(place)];
      if (id == kNoTileValue || last[at(id)] != static_cast<int64_t>(n) || padded(id) != padded(node.out)) continue;
      buffer = buffer_of[at(id)];
      if (buffer >= 0) break;
    }
    if (buffer < 0) {
      buffer = static_cast<int>(buffers.size());
      buffers.push_back({static_cast<int64_t>(n), 0, padded(node.out), 0});
    }
    buffers[at(buffer)].last = last[at(node.out)];
  }
  const int64_t size = place_buffers(buffers);
  for (size_t v = 0; v < places.size(); ++v) {
    if (buffer_of[v] >= 0) places[v].tile_offset = static_cast<int32_t>(buffers[at(buffer_of[v])].offset);
  }
  return size;
}

}  // namespace

TileSteps plan_tile_steps(const TileProgram& program) {
  TileSteps result;
  for (const TileValue& value : program.values()) {
    result.places.push_back({nullptr, 0, 0, static_cast<int32_t>(value.per_row()), value.input >= 0 ? 1 : 0});
  }
  result.numbers_per_row = place_values(program, result.places);
  for (const TileNode& node : program.nodes()) {
    const TileValue& value = program.values()[at(node.out)];
    TileStep step{};
    step.eps = node.eps;
    step.bias = node.bias;
    step.kind = node.kind;
    step.components = static_cast<int32_t>(value.components);
    step.channels = static_cast<int32_t>(value.channels);
    step.out = node.out;
    std::copy(node.in.begin(), node.in.end(), step.in);
    if (node.in[0] != kNoTileValue) {
      step.in_components = static_cast<int32_t>(program.values()[at(node.in[0])].components);
      step.in_channels = static_cast<int32_t>(program.values()[at(node.in[0])].channels);
    }
    step.first_term = static_cast<int32_t>(result.terms.size());
    for (const LinearTerm& term : node.terms) {
      const MatrixPart& part = term.matrix;
      if (part.rows == 0) continue;
      result.terms.push_back({part.whole.offset + part.first_row * part.whole.cols + part.first_col,
                              static_cast<int32_t>(part.whole.cols), static_cast<int32_t>(part.rows), term.x});
    }
    step.end_term = static_cast<int32_t>(result.terms.size());
    result.steps.push_back(step);
  }
  int32_t next = -1;
  for (size_t s = result.steps.size(); s-- > 0;) {
    TileStep& step = result.steps[s];
    if (step.channels > 1 && step.end_term > step.first_term) next = static_cast<int32_t>(s);
    step.next_product = next;
  }
  return result;
}

}  // namespace dtnn
