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

// The number of the last live node that reads a value, or of the one that makes it where none reads it.
std::vector<int64_t> last_uses(const TileProgram& program, const std::vector<char>& live) {
  std::vector<int64_t> last(program.values().size(), -1);
  for (size_t n = 0; n < program.nodes().size(); ++n) {
    if (!live[n]) continue;
    last[at(program.nodes()[n].out)] = static_cast<int64_t>(n);
    for_each_read(program.nodes()[n], [&](TileValueId id) { last[at(id)] = static_cast<int64_t>(n); });
  }
  return last;
}

// Gives every value between inputs and those `in_memory` its offset; returns the numbers of a row.
int64_t place_values(const TileProgram& program, const std::vector<char>& live, const std::vector<char>& in_memory,
                     std::vector<TilePlace>& places) {
  const std::vector<int64_t> last = last_uses(program, live);
  const auto padded = [&](TileValueId id) { return padded_numbers(program.values()[at(id)].per_row()); };
  std::vector<TileBuffer> buffers;
  std::vector<int> buffer_of(program.values().size(), -1);  // -1: in device memory
  for (size_t n = 0; n < program.nodes().size(); ++n) {
    const TileNode& node = program.nodes()[n];
    if (!live[n] || in_memory[at(node.out)]) continue;
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

void append_terms(const TileNode& node, TileStep& step, std::vector<TileTerm>& terms) {
  step.first_term = static_cast<int32_t>(terms.size());
  for (const LinearTerm& term : node.terms) {
    const MatrixPart& part = term.matrix;
    if (part.rows == 0) continue;
    terms.push_back({part.whole.offset + part.first_row * part.whole.cols + part.first_col,
                     static_cast<int32_t>(part.whole.cols), static_cast<int32_t>(part.rows), term.x});
  }
  step.end_term = static_cast<int32_t>(terms.size());
}

TileSteps plan_steps(const TileProgram& program, const std::vector<char>& live, const std::vector<char>& in_memory,
                     const std::vector<char>& kept) {
  TileSteps result;
  for (const TileValue& value : program.values()) {
    TilePlace place{};
    place.per_row = static_cast<int32_t>(value.per_row());
    place.is_input = value.input >= 0 ? 1 : 0;
    result.places.push_back(place);
  }
  result.numbers_per_row = place_values(program, live, in_memory, result.places);
  for (size_t n = 0; n < program.nodes().size(); ++n) {
    if (!live[n]) continue;
    TileStep step = tile_step_of(program, program.nodes()[n]);
    append_terms(program.nodes()[n], step, result.terms);
    result.steps.push_back(step);
    if (!kept[at(step.out)]) continue;
    step.action = TileAction::kKeep;
    step.first_term = step.end_term = 0;
    result.steps.push_back(step);
  }
  link_products(result.steps);
  return result;
}

}  // namespace

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

int64_t place_buffers(std::vector<TileBuffer>& buffers) {
  std::vector<size_t> order(buffers.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return buffers[a].size > buffers[b].size; });
  int64_t all = 0;
  std::vector<TileBuffer> placed;  // by offset
  for (size_t i : order) {
    TileBuffer& buffer = buffers[i];
    buffer.offset = 0;
    for (const TileBuffer& other : placed) {
      if (other.first > buffer.last || buffer.first > other.last) continue;
      if (buffer.offset + buffer.size <= other.offset) break;
      buffer.offset = std::max(buffer.offset, other.offset + other.size);
    }
    const auto after = [](const TileBuffer& x, const TileBuffer& y) { return x.offset < y.offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), buffer, after), buffer);
    all = std::max(all, buffer.offset + buffer.size);
  }
  return all;
}

int64_t padded_numbers(int64_t per_row) { return std::max<int64_t>(4, (per_row + 3) / 4 * 4); }

TileStep tile_step_of(const TileProgram& program, const TileNode& node) {
  const TileValue& value = program.values()[at(node.out)];
  TileStep step{};
  step.eps = node.eps;
  step.bias = node.bias;
  step.kind = node.kind;
  step.action = TileAction::kForward;
  step.components = static_cast<int32_t>(value.components);
  step.channels = static_cast<int32_t>(value.channels);
  step.out = node.out;
  std::copy(node.in.begin(), node.in.end(), step.in);
  if (node.in[0] != kNoTileValue) {
    step.in_components = static_cast<int32_t>(program.values()[at(node.in[0])].components);
    step.in_channels = static_cast<int32_t>(program.values()[at(node.in[0])].channels);
  }
  step.grad = -1;
  std::fill_n(step.grad_in, 5, -1);
  return step;
}

void link_products(std::vector<TileStep>& steps) {
  int32_t next = -1;
  for (size_t s = steps.size(); s-- > 0;) {
    TileStep& step = steps[s];
    if (step.channels > 1 && step.end_term > step.first_term) next = static_cast<int32_t>(s);
    step.next_product = next;
  }
}

TileSteps plan_tile_steps(const TileProgram& program) {
  const size_t values = program.values().size();
  std::vector<char> outputs(values, 0);
  for (TileValueId id : program.outputs()) outputs[at(id)] = 1;
  return plan_steps(program, std::vector<char>(program.nodes().size(), 1), outputs, std::vector<char>(values, 0));
}

TileSteps plan_kept_steps(const TileProgram& program, const std::vector<char>& kept) {
  std::vector<char> live(program.nodes().size(), 0), wanted = kept;
  for (size_t n = live.size(); n-- > 0;) {
    const TileNode& node = program.nodes()[n];
    live[n] = wanted[at(node.out)];
    if (!live[n]) continue;
    for_each_read(node, [&](TileValueId id) { wanted[at(id)] = 1; });
  }
  return plan_steps(program, live, std::vector<char>(program.values().size(), 0), kept);
}

}  // namespace dtnn
