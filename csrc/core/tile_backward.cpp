// SPDX-License-Identifier: MIT
#include "tile_backward.h"

#include <algorithm>
#include <stdexcept>

namespace dtnn {
namespace {

size_t at(int64_t i) { return static_cast<size_t>(i); }

// The inputs of a node in the order in which the kernels write their gradients (tile_algebra_grads.h). It matters where
// a value is there twice.
std::vector<int> writing_order(TileNodeKind kind) {
  switch (kind) {
    case TileNodeKind::kGate:
      return {1, 2, 0};
    case TileNodeKind::kGatedSum:
      return {1, 3, 4, 0, 2};
    case TileNodeKind::kScaleRows:
      return {1, 0};
    default:
      return {0, 1, 2, 3, 4};
  }
}

bool overlap(const MatrixPart& a, const MatrixPart& b) {
  const auto meet = [](int64_t first, int64_t count, int64_t other, int64_t others) {
    return first < other + others && other < first + count;
  };
  return a.whole.offset == b.whole.offset && meet(a.first_row, a.rows, b.first_row, b.rows) &&
         meet(a.first_col, a.cols, b.first_col, b.cols);
}

class Planner {
 public:
  Planner(const TileProgram& program, const std::vector<bool>& given, const std::vector<bool>& read)
      : program_(program), num_values_(program.values().size()) {
    plan_.kept.assign(num_values_, 0);
    for (size_t o = 0; o < read.size(); ++o) {
      if (read[o]) plan_.kept[at(program.outputs()[o])] = 1;
    }
    find_flow(given);
    make_places();
    transpose_matrices();
    start(given);
    for (size_t n = program.nodes().size(); n-- > 0;) {
      const TileNode& node = program.nodes()[n];
      if (!flows_[at(node.out)]) continue;
      if (node.kind == TileNodeKind::kLinear) {
        add_product(node);
      } else {
        add_step(node);
      }
    }
    for (TileValueId id : program.inputs()) {
      const TileValue& value = program.values()[at(id)];
      plan_.needed_grads.push_back(value.requires_grad);
      if (value.requires_grad && !has_grad_[at(id)] && value.per_row() > 0) plan_.zeros.push_back(id);
    }
    place_grads();
    link_products(plan_.reverse.steps);
    plan_.forward = plan_kept_steps(program, plan_.kept);
  }

  TileBackward result() const { return plan_; }

 private:
  const TileValue& value(TileValueId id) const { return program_.values()[at(id)]; }
  bool is_wanted(TileValueId id) const { return id != kNoTileValue && value(id).requires_grad; }

  // Which values the gradients reach, and of which the gradient is a sum with parts from later steps.
  void find_flow(const std::vector<bool>& given) {
    flows_.assign(num_values_, 0);
    has_parts_.assign(num_values_, 0);
    given_of_.assign(num_values_, -1);
    for (size_t o = 0; o < given.size(); ++o) {
      const TileValueId id = program_.outputs()[o];
      if (!given[o] || !value(id).requires_grad) continue;
      flows_[at(id)] = 1;
      given_of_[at(id)] = static_cast<int>(o);
    }
    const auto reach = [&](TileValueId id) {
      if (is_wanted(id)) flows_[at(id)] = has_parts_[at(id)] = 1;
    };
    for (size_t n = program_.nodes().size(); n-- > 0;) {
      const TileNode& node = program_.nodes()[n];
      if (!flows_[at(node.out)]) continue;
      for (TileValueId id : node.in) reach(id);
      for (const LinearTerm& term : node.terms) reach(term.x);
    }
  }

  void make_places() {
    TileSteps& reverse = plan_.reverse;
    const auto add = [&](TileValueId id, bool is_input) {
      TilePlace place{};
      place.per_row = static_cast<int32_t>(value(id).per_row());
      place.is_input = is_input ? 1 : 0;
      reverse.places.push_back(place);
    };
    for (size_t v = 0; v < num_values_; ++v) add(static_cast<TileValueId>(v), true);
    for (size_t v = 0; v < num_values_; ++v) add(static_cast<TileValueId>(v), false);
    for (TileValueId id : program_.outputs()) add(id, true);
    plan_.kept_grads.assign(reverse.places.size(), 0);
    has_grad_.assign(num_values_, 0);
  }

  void transpose_matrices() {
    plan_.num_transposed = 0;
    for (const TileMatrix& m : program_.matrices()) {
      const int64_t stride = (m.rows + 3) / 4 * 4;
      plan_.transposed.push_back({m.offset, plan_.num_transposed, m.rows, m.cols, stride});
      plan_.num_transposed += m.cols * stride;
    }
  }

  const TileTransposed& transposed(const TileMatrix& whole) const {
    // Matrices without numbers have the offset of the next one.
    const auto found = std::find_if(plan_.transposed.begin(), plan_.transposed.end(), [&](const TileTransposed& m) {
      return m.from == whole.offset && m.rows == whole.rows && m.cols == whole.cols;
    });
    return *found;
  }

  // Where the gradient of a value stands: as given, where it has no other parts.
  int32_t grad_of(TileValueId id) const {
    const int output = given_of_[at(id)];
    return output >= 0 && !has_parts_[at(id)] ? plan_.given_place(at(output)) : plan_.grad_place(id);
  }

  // Whether the gradient has parts already; from now on it has.
  int32_t take_part(TileValueId id) {
    const int32_t before = has_grad_[at(id)];
    has_grad_[at(id)] = 1;
    return before;
  }

  // Given gradients to which parts are added become the first part.
  void start(const std::vector<bool>& given) {
    for (size_t o = 0; o < given.size(); ++o) {
      const TileValueId id = program_.outputs()[o];
      if (given_of_[at(id)] < 0) continue;
      const bool is_part = has_parts_[at(id)] != 0;
      take_part(id);
      if (!is_part) continue;
      TileStep step = tile_step_of(program_, {TileNodeKind::kAdd, id, {id, -1, -1, -1, -1}, {}, kNoBias, 0});
      step.action = TileAction::kBackward;
      step.grad = plan_.given_place(o);
      step.grad_in[0] = plan_.grad_place(id);
      plan_.reverse.steps.push_back(step);
    }
  }

  void keep(TileValueId id) {
    if (id != kNoTileValue && value(id).input < 0) plan_.kept[at(id)] = 1;
  }

  // The values that the gradients of a step need.
  void keep_read(const TileNode& node, const TileStep& step) {
    const auto keep_if = [&](bool needed, int input) {
      if (needed) keep(node.in[at(input)]);
    };
    const auto wants = [&](int input) { return step.grad_in[input] >= 0; };
    switch (node.kind) {
      case TileNodeKind::kSilu:
        keep_if(true, 0);
        keep_if(wants(0), 1);
        break;
      case TileNodeKind::kNorm:
      case TileNodeKind::kLayerNorm:
      case TileNodeKind::kSoftScale:
        keep_if(true, 0);
        keep(node.out);
        break;
      case TileNodeKind::kGate:
        keep_if(wants(0) || wants(1), 0);
        keep_if(wants(0), 1);
        break;
      case TileNodeKind::kAtomTensor:
        keep_if(wants(1), 0);
        keep_if(wants(0) || wants(1), 1);
        keep_if(wants(2), 2);
        break;
      case TileNodeKind::kScaleRows:
      case TileNodeKind::kTimesVector:
      case TileNodeKind::kDot:
        keep_if(wants(1), 0);
        keep_if(wants(0), 1);
        break;
      case TileNodeKind::kSquare:
        keep_if(true, 0);
        break;
      case TileNodeKind::kGatedSum:
        for (int side : {0, 2}) {
          keep_if(wants(side + 1), side);
          keep_if(wants(side), side + 1);
        }
        break;
      case TileNodeKind::kLinear:
      case TileNodeKind::kAdd:
      case TileNodeKind::kTrace:
      case TileNodeKind::kTraceless:
        break;
    }
  }

  void add_step(const TileNode& node) {
    TileStep step = tile_step_of(program_, node);
    step.action = TileAction::kBackward;
    step.grad = grad_of(node.out);
    for (int input : writing_order(node.kind)) {
      const TileValueId id = node.in[at(input)];
      if (!is_wanted(id)) continue;
      step.grad_in[input] = plan_.grad_place(id);
      step.adds |= take_part(id) << input;
    }
    keep_read(node, step);
    plan_.reverse.steps.push_back(step);
  }

  void add_product(const TileNode& node) {
    const TileValue& out = value(node.out);
    const int32_t grad = grad_of(node.out);
    if (program_.weights_need_grad()) {
      if (grad == plan_.grad_place(node.out)) {
        TileStep step = tile_step_of(program_, node);
        step.action = TileAction::kKeep;
        step.out = grad;
        plan_.reverse.steps.push_back(step);
        plan_.kept_grads[at(grad)] = 1;
      }
      add_weight_grads(node, grad);
    }
    for (const LinearTerm& term : node.terms) {
      const MatrixPart& part = term.matrix;
      if (!is_wanted(term.x) || part.rows == 0) continue;
      TileStep step = tile_step_of(program_, node);
      step.channels = static_cast<int32_t>(part.rows);
      step.bias = kNoBias;
      step.out = plan_.grad_place(term.x);
      step.add = take_part(term.x);
      std::vector<TileTerm>& terms = plan_.reverse.terms;
      step.first_term = static_cast<int32_t>(terms.size());
      if (part.cols > 0) {
        const TileTransposed& matrix = transposed(part.whole);
        terms.push_back({matrix.to + part.first_col * matrix.stride + part.first_row,
                         static_cast<int32_t>(matrix.stride), static_cast<int32_t>(out.channels), grad});
      }
      step.end_term = static_cast<int32_t>(terms.size());
      plan_.reverse.steps.push_back(step);
    }
  }

  void add_weight_grads(const TileNode& node, int32_t grad) {
    const TileValue& out = value(node.out);
    int64_t bias = node.bias;
    for (const LinearTerm& term : node.terms) {
      const MatrixPart& part = term.matrix;
      if (part.rows == 0) continue;
      if (part.cols > 0) take_weights(part);
      keep(term.x);
      plan_.weight_grads.push_back({term.x, grad, out.components, part.rows, out.channels,
                                    part.whole.offset + part.first_row * part.whole.cols + part.first_col,
                                    part.whole.cols, bias});
      bias = kNoBias;
    }
    if (bias == kNoBias) return;
    plan_.weight_grads.push_back({kNoTileValue, grad, out.components, 0, out.channels, 0, 0, bias});
  }

  void take_weights(const MatrixPart& part) {
    for (const MatrixPart& other : learned_) {
      if (overlap(part, other)) throw std::logic_error("tile_backward: a part of a matrix is used by two products");
    }
    learned_.push_back(part);
  }

  // Gives every gradient in the tile's memory its offset.
  void place_grads() {
    const auto is_in_tile = [&](int32_t place) {
      const int64_t v = place - static_cast<int64_t>(num_values_);
      return v >= 0 && v < static_cast<int64_t>(num_values_) && value(static_cast<TileValueId>(v)).input < 0;
    };
    TileSteps& reverse = plan_.reverse;
    const int64_t count = static_cast<int64_t>(reverse.steps.size());
    std::vector<int64_t> last(reverse.places.size(), -1);
    const auto for_each_place = [&](const TileStep& step, const auto& visit) {
      const auto visit_tile = [&](int32_t place) {
        if (is_in_tile(place)) visit(place);
      };
      if (step.action == TileAction::kBackward) {
        visit_tile(step.grad);
        for (int32_t place : step.grad_in) visit_tile(place);
        return;
      }
      visit_tile(step.out);
      for (int32_t t = step.first_term; t < step.end_term; ++t) visit_tile(reverse.terms[at(t)].x);
    };
    for (int64_t s = 0; s < count; ++s) {
      for_each_place(reverse.steps[at(s)], [&](int32_t place) { last[at(place)] = s; });
    }
    std::vector<TileBuffer> buffers;
    std::vector<int> buffer_of(reverse.places.size(), -1);
    const auto padded = [&](int32_t place) { return padded_numbers(reverse.places[at(place)].per_row); };
    for (int64_t s = 0; s < count; ++s) {
      const TileStep& step = reverse.steps[at(s)];
      replace(step, s, last, padded, buffers, buffer_of);
      for_each_place(step, [&](int32_t place) {
        int& buffer = buffer_of[at(place)];
        if (buffer >= 0) return;
        buffer = static_cast<int>(buffers.size());
        buffers.push_back({s, last[at(place)], padded(place), 0});
      });
    }
    reverse.numbers_per_row = place_buffers(buffers);
    for (size_t p = 0; p < reverse.places.size(); ++p) {
      if (buffer_of[p] >= 0) reverse.places[p].tile_offset = static_cast<int32_t>(buffers[at(buffer_of[p])].offset);
    }
  }

  // The gradient of an input takes the memory of that of the output, which nothing reads later.
  template <typename Padded>
  void replace(const TileStep& step, int64_t s, const std::vector<int64_t>& last, const Padded& padded,
               std::vector<TileBuffer>& buffers, std::vector<int>& buffer_of) const {
    if (step.action != TileAction::kBackward || buffer_of[at(step.grad)] < 0 || last[at(step.grad)] != s) return;
    for (int input : replaceable_inputs(step.kind)) {
      const int32_t place = step.grad_in[input];
      if (place < 0 || last[at(place)] < 0 || (step.adds >> input & 1) != 0) continue;
      if (padded(place) != padded(step.grad)) continue;
      const int buffer = buffer_of[at(step.grad)];
      buffer_of[at(place)] = buffer;
      buffers[at(buffer)].last = last[at(place)];
      return;
    }
  }

  const TileProgram& program_;
  size_t num_values_;
  TileBackward plan_;
  std::vector<MatrixPart> learned_;  // whose gradients are planned
  std::vector<char> flows_;
  std::vector<char> has_parts_;
  std::vector<int> given_of_;
  std::vector<char> has_grad_;
};

}  // namespace

TileBackward plan_tile_backward(const TileProgram& program, const std::vector<bool>& given,
                                const std::vector<bool>& read) {
  return Planner(program, given, read).result();
}

}  // namespace dtnn
