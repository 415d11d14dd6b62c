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

// The tile's memory while the program runs.
class TileMap {
 public:
  // The lowest gap between the values that are there.
  int64_t add(int64_t size) {
    std::sort(taken_.begin(), taken_.end(), [](const Part& a, const Part& b) { return a.offset < b.offset; });
    int64_t offset = 0;
    for (const Part& part : taken_) {
      if (offset + size <= part.offset) break;
      offset = std::max(offset, part.offset + part.size);
    }
    taken_.push_back({offset, size});
    size_ = std::max(size_, offset + size);
    return offset;
  }
  void remove(int64_t offset) {
    taken_.erase(std::find_if(taken_.begin(), taken_.end(), [=](const Part& part) { return part.offset == offset; }));
  }
  int64_t size() const { return size_; }

 private:
  struct Part {
    int64_t offset;
    int64_t size;
  };
  std::vector<Part> taken_;
  int64_t size_ = 0;
};

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
  const auto in_tile = [&](TileValueId id) {
    return program.values()[at(id)].input < 0 && program.values()[at(id)].output < 0;
  };
  const auto padded = [&](TileValueId id) {
    return std::max<int64_t>(4, (program.values()[at(id)].per_row() + 3) / 4 * 4);
  };
  TileMap map;
  for (size_t n = 0; n < program.nodes().size(); ++n) {
    const TileNode& node = program.nodes()[n];
    const auto ends_here = [&](TileValueId id) { return in_tile(id) && last[at(id)] == static_cast<int64_t>(n); };
    TileValueId replaced = kNoTileValue;
    if (in_tile(node.out)) {
      for (int place : replaceable_inputs(node.kind)) {
        const TileValueId id = node.in[at(place)];
        if (replaced == kNoTileValue && id != kNoTileValue && ends_here(id) && padded(id) == padded(node.out)) {
          replaced = id;
        }
      }
      const int64_t offset = replaced == kNoTileValue ? map.add(padded(node.out)) : places[at(replaced)].tile_offset;
      places[at(node.out)].tile_offset = static_cast<int32_t>(offset);
    }
    std::vector<TileValueId> done;
    const auto finish = [&](TileValueId id) {
      if (!ends_here(id) || id == replaced || std::find(done.begin(), done.end(), id) != done.end()) return;
      done.push_back(id);
      map.remove(places[at(id)].tile_offset);
    };
    for_each_read(node, finish);
    finish(node.out);
  }
  return map.size();
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
