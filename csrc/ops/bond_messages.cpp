// SPDX-License-Identifier: MIT
#include "ops/bond_messages.h"

#include <string>
#include <tuple>

#include "ops/rank2_linear.h"
#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"  // DTNN_CUDA_KEY
#endif

namespace dtnn {
namespace {

using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using Twelve =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Arguments against sizes that other arguments gave.
class ArgumentCheck {
 public:
  ArgumentCheck(const char* op, const Tensor& first) : op_(op), first_(first) {}

  Tensor operator()(const char* name, const Tensor& tensor, const char* wanted,
                    std::initializer_list<int64_t> sizes) const {
    check_same_dtype(op_, name, tensor, "q", first_);
    check_same_device(op_, name, tensor, "q", first_);
    check_shape(op_, name, tensor, wanted, sizes);
    return torch::stable::contiguous(tensor);
  }
  OptionalTensor operator()(const char* name, const OptionalTensor& tensor, const char* wanted,
                            std::initializer_list<int64_t> sizes) const {
    if (!tensor.has_value()) return std::nullopt;
    return (*this)(name, *tensor, wanted, sizes);
  }

 private:
  const char* op_;
  const Tensor& first_;
};

struct Arguments {
  Tensor q, tau, atom_hidden, bond_scalar, bond_vector, direction, envelope, radial;
  Tensor hidden_weight, hidden_bias, out_weight, out_bias;
  Tensor pairs, row_ptr;
  OptionalTensor neighbor_order, neighbor_row_ptr, turn, turn_counts;
};

std::pair<MessageShape, MessageInputs> check_messages(const char* op, const Arguments& in) {
  check_floating(op, "q", in.q);
  check_shape(op, "q", in.q, "[N, 3, V]", {kAny, 3, kAny});
  check_shape(op, "bond_scalar", in.bond_scalar, "[E, C]", {kAny, kAny});
  check_shape(op, "radial", in.radial, "[E, R]", {kAny, kAny});
  check_shape(op, "atom_hidden", in.atom_hidden, "[N, H]", {kAny, kAny});
  const MessageShape s{in.q.size(0), in.bond_scalar.size(0), in.bond_scalar.size(1),
                       in.q.size(2), in.radial.size(1),      in.atom_hidden.size(1)};
  const ArgumentCheck check(op, in.q);
  BondEnds ends = check_bond_ends(op, "q", in.q, in.pairs, in.row_ptr, in.neighbor_order, in.neighbor_row_ptr, 1, 1);
  DTNN_CHECK(ends.num_bonds() == s.num_bonds, op, ": expected `bond_scalar` with one row for each of the ",
             ends.num_bonds(), " bonds, got ", s.num_bonds);
  DTNN_CHECK(ends.num_atoms() == s.num_atoms, op, ": expected `q` with one row for each of the ", ends.num_atoms(),
             " atoms of `row_ptr`, got ", s.num_atoms);
  DTNN_CHECK(in.turn.has_value() == in.turn_counts.has_value(), op,
             ": expected both of `turn` and `turn_counts` or none, got one");
  const int64_t n = s.num_atoms, e = s.num_bonds, v = s.vectors, f = s.features(), o = s.outputs();
  return {s,
          {torch::stable::contiguous(in.q), check("tau", in.tau, "[N, 6, V] with N and V of `q`", {n, 6, v}),
           check("atom_hidden", in.atom_hidden, "[N, H] with N of `q`", {n, s.hidden}),
           check("bond_scalar", in.bond_scalar, "[E, C]", {e, s.scalars}),
           check("bond_vector", in.bond_vector, "[E, 3, V] with V of `q`", {e, 3, v}),
           check("direction", in.direction, "[E, 3]", {e, 3}), check("envelope", in.envelope, "[E]", {e}),
           check("radial", in.radial, "[E, R]", {e, s.radial}),
           check("hidden_weight", in.hidden_weight, "[H, C + 5 V + R]", {s.hidden, f}),
           check("hidden_bias", in.hidden_bias, "[H]", {s.hidden}),
           check("out_weight", in.out_weight, "[C + 5 V, H]", {o, s.hidden}),
           check("out_bias", in.out_bias, "[C + 5 V]", {o}), std::move(ends),
           check("turn", in.turn, "[E, 3, 3]", {e, 3, 3}), check("turn_counts", in.turn_counts, "[2, E]", {2, e})}};
}

MessageOutputs empty_outputs(const MessageShape& s, const Tensor& like) {
  const auto empty = [&like](std::initializer_list<int64_t> sizes) { return torch::stable::new_empty(like, sizes); };
  return {empty({s.num_bonds, s.scalars}), empty({s.num_bonds, 3, s.vectors}), empty({s.num_atoms, s.scalars}),
          empty({s.num_atoms, 3, s.vectors}), empty({s.num_atoms, 6, s.vectors})};
}

MessageGrads empty_grads(const MessageShape& s, const MessageNeeds& needs, const Tensor& like) {
  const auto empty = [&like](bool needed, std::initializer_list<int64_t> sizes) {
    return needed ? torch::stable::new_empty(like, sizes) : torch::stable::new_empty(like, {0});
  };
  const int64_t n = s.num_atoms, e = s.num_bonds, v = s.vectors;
  return {empty(true, {n, 3, v}),
          empty(true, {n, 6, v}),
          empty(true, {n, s.hidden}),
          empty(true, {e, s.scalars}),
          empty(true, {e, 3, v}),
          empty(needs.geometry, {e, 3}),
          empty(needs.geometry, {e}),
          empty(needs.geometry, {e, s.radial}),
          empty(needs.weights, {s.hidden, s.features()}),
          empty(needs.weights, {s.hidden}),
          empty(needs.weights, {s.outputs(), s.hidden}),
          empty(needs.weights, {s.outputs()})};
}

MessageOutputGrads check_grads(const ArgumentCheck& check, const MessageShape& s, const MessageOutputGrads& grads) {
  const int64_t n = s.num_atoms, e = s.num_bonds, v = s.vectors;
  return {check("grad_scalar", grads.scalar, "[E, C]", {e, s.scalars}),
          check("grad_vector", grads.vector, "[E, 3, V]", {e, 3, v}),
          check("grad_sum_scalar", grads.sum_scalar, "[N, C]", {n, s.scalars}),
          check("grad_sum_vector", grads.sum_vector, "[N, 3, V]", {n, 3, v}),
          check("grad_sum_rank2", grads.sum_rank2, "[N, 6, V]", {n, 6, v})};
}

MessageInputChanges check_changes(const ArgumentCheck& check, const MessageShape& s, const MessageInputChanges& given) {
  const int64_t n = s.num_atoms, e = s.num_bonds, v = s.vectors, f = s.features(), o = s.outputs();
  return {check("change_q", given.q, "[N, 3, V]", {n, 3, v}),
          check("change_tau", given.tau, "[N, 6, V]", {n, 6, v}),
          check("change_atom_hidden", given.atom_hidden, "[N, H]", {n, s.hidden}),
          check("change_bond_scalar", given.bond_scalar, "[E, C]", {e, s.scalars}),
          check("change_bond_vector", given.bond_vector, "[E, 3, V]", {e, 3, v}),
          check("change_direction", given.direction, "[E, 3]", {e, 3}),
          check("change_envelope", given.envelope, "[E]", {e}),
          check("change_radial", given.radial, "[E, R]", {e, s.radial}),
          check("change_hidden_weight", given.hidden_weight, "[H, C + 5 V + R]", {s.hidden, f}),
          check("change_hidden_bias", given.hidden_bias, "[H]", {s.hidden}),
          check("change_out_weight", given.out_weight, "[C + 5 V, H]", {o, s.hidden}),
          check("change_out_bias", given.out_bias, "[C + 5 V]", {o})};
}

using Forward = void (*)(const MessageShape&, const MessageInputs&, const MessageProducts&, MessageOutputs&);
using Backward = void (*)(const MessageShape&, const MessageInputs&, const MessageProducts&, const MessageOutputGrads&,
                          const MessageNeeds&, MessageGrads&);

// The operation on one device.
template <Forward kernel>
Five messages_on(const Tensor& q, const Tensor& tau, const Tensor& atom_hidden, const Tensor& bond_scalar,
                 const Tensor& bond_vector, const Tensor& direction, const Tensor& envelope, const Tensor& radial,
                 const Tensor& hidden_weight, const Tensor& hidden_bias, const Tensor& out_weight,
                 const Tensor& out_bias, const Tensor& pairs, const Tensor& row_ptr,
                 const OptionalTensor& neighbor_order, const OptionalTensor& neighbor_row_ptr,
                 const OptionalTensor& turn, const OptionalTensor& turn_counts, int64_t precision) {
  const auto [s, inputs] =
      check_messages("bond_messages", {q, tau, atom_hidden, bond_scalar, bond_vector, direction, envelope, radial,
                                       hidden_weight, hidden_bias, out_weight, out_bias, pairs, row_ptr, neighbor_order,
                                       neighbor_row_ptr, turn, turn_counts});
  check_precision("bond_messages", precision);
  MessageOutputs outputs = empty_outputs(s, q);
  kernel(s, inputs, {precision}, outputs);
  return {outputs.scalar, outputs.vector, outputs.sum_scalar, outputs.sum_vector, outputs.sum_rank2};
}

template <Backward kernel>
Twelve backward_on(const OptionalTensor& grad_scalar, const OptionalTensor& grad_vector,
                   const OptionalTensor& grad_sum_scalar, const OptionalTensor& grad_sum_vector,
                   const OptionalTensor& grad_sum_rank2, const Tensor& q, const Tensor& tau, const Tensor& atom_hidden,
                   const Tensor& bond_scalar, const Tensor& bond_vector, const Tensor& direction,
                   const Tensor& envelope, const Tensor& radial, const Tensor& hidden_weight, const Tensor& hidden_bias,
                   const Tensor& out_weight, const Tensor& out_bias, const Tensor& pairs, const Tensor& row_ptr,
                   const OptionalTensor& neighbor_order, const OptionalTensor& neighbor_row_ptr,
                   const OptionalTensor& turn, const OptionalTensor& turn_counts, bool need_geometry, bool need_weights,
                   int64_t precision) {
  const char* op = "bond_messages_backward";
  const auto [s, inputs] = check_messages(
      op, {q, tau, atom_hidden, bond_scalar, bond_vector, direction, envelope, radial, hidden_weight, hidden_bias,
           out_weight, out_bias, pairs, row_ptr, neighbor_order, neighbor_row_ptr, turn, turn_counts});
  check_precision(op, precision);
  const MessageOutputGrads output_grads = check_grads(
      ArgumentCheck(op, q), s, {grad_scalar, grad_vector, grad_sum_scalar, grad_sum_vector, grad_sum_rank2});
  MessageGrads grads = empty_grads(s, {need_geometry, need_weights}, q);
  kernel(s, inputs, {precision}, output_grads, {need_geometry, need_weights}, grads);
  return {grads.q,        grads.tau,    grads.atom_hidden,   grads.bond_scalar, grads.bond_vector, grads.direction,
          grads.envelope, grads.radial, grads.hidden_weight, grads.hidden_bias, grads.out_weight,  grads.out_bias};
}

using Seventeen = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                             Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Seventeen double_backward_on_cpu(
    const OptionalTensor& change_q, const OptionalTensor& change_tau, const OptionalTensor& change_atom_hidden,
    const OptionalTensor& change_bond_scalar, const OptionalTensor& change_bond_vector,
    const OptionalTensor& change_direction, const OptionalTensor& change_envelope, const OptionalTensor& change_radial,
    const OptionalTensor& change_hidden_weight, const OptionalTensor& change_hidden_bias,
    const OptionalTensor& change_out_weight, const OptionalTensor& change_out_bias, const OptionalTensor& grad_scalar,
    const OptionalTensor& grad_vector, const OptionalTensor& grad_sum_scalar, const OptionalTensor& grad_sum_vector,
    const OptionalTensor& grad_sum_rank2, const Tensor& q, const Tensor& tau, const Tensor& atom_hidden,
    const Tensor& bond_scalar, const Tensor& bond_vector, const Tensor& direction, const Tensor& envelope,
    const Tensor& radial, const Tensor& hidden_weight, const Tensor& hidden_bias, const Tensor& out_weight,
    const Tensor& out_bias, const Tensor& pairs, const Tensor& row_ptr, const OptionalTensor& neighbor_order,
    const OptionalTensor& neighbor_row_ptr, const OptionalTensor& turn, const OptionalTensor& turn_counts,
    bool need_geometry, bool need_weights) {
  const char* op = "bond_messages_double_backward";
  const auto [s, inputs] = check_messages(
      op, {q, tau, atom_hidden, bond_scalar, bond_vector, direction, envelope, radial, hidden_weight, hidden_bias,
           out_weight, out_bias, pairs, row_ptr, neighbor_order, neighbor_row_ptr, turn, turn_counts});
  const ArgumentCheck check(op, q);
  const MessageInputChanges changes = check_changes(
      check, s,
      {change_q, change_tau, change_atom_hidden, change_bond_scalar, change_bond_vector, change_direction,
       change_envelope, change_radial, change_hidden_weight, change_hidden_bias, change_out_weight, change_out_bias});
  const MessageOutputGrads output_grads =
      check_grads(check, s, {grad_scalar, grad_vector, grad_sum_scalar, grad_sum_vector, grad_sum_rank2});
  const MessageNeeds needs{need_geometry, need_weights};
  MessageOutputs to = empty_outputs(s, q);
  MessageGrads g = empty_grads(s, needs, q);
  bond_messages_double_backward_cpu(s, inputs, changes, output_grads, needs, to, g);
  return {to.scalar, to.vector,       to.sum_scalar, to.sum_vector, to.sum_rank2, g.q,
          g.tau,     g.atom_hidden,   g.bond_scalar, g.bond_vector, g.direction,  g.envelope,
          g.radial,  g.hidden_weight, g.hidden_bias, g.out_weight,  g.out_bias};
}

const char* const kOutputGrads =
    "Tensor? grad_scalar, Tensor? grad_vector, Tensor? grad_sum_scalar, Tensor? grad_sum_vector, "
    "Tensor? grad_sum_rank2, ";
const char* const kInputs =
    "Tensor q, Tensor tau, Tensor atom_hidden, Tensor bond_scalar, Tensor bond_vector, Tensor direction, "
    "Tensor envelope, Tensor radial, Tensor hidden_weight, Tensor hidden_bias, Tensor out_weight, Tensor out_bias, "
    "Tensor pairs, Tensor row_ptr, Tensor? neighbor_order, Tensor? neighbor_row_ptr, Tensor? turn, "
    "Tensor? turn_counts";

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  const std::string inputs = dtnn::kInputs;
  library.def(("bond_messages(" + inputs + ", int precision=0) -> (Tensor, Tensor, Tensor, Tensor, Tensor)").c_str());
  const auto tensors = [](int count) {
    std::string text = "Tensor";
    for (int k = 1; k < count; ++k) text += ", Tensor";
    return "(" + text + ")";
  };
  library.def(("bond_messages_backward(" + (dtnn::kOutputGrads + inputs) +
               ", bool need_geometry, bool need_weights, int precision=0) -> " + tensors(12))
                  .c_str());
  std::string changes;
  for (const char* name : {"q", "tau", "atom_hidden", "bond_scalar", "bond_vector", "direction", "envelope", "radial",
                           "hidden_weight", "hidden_bias", "out_weight", "out_bias"}) {
    changes += std::string("Tensor? change_") + name + ", ";
  }
  library.def(("bond_messages_double_backward(" + changes + dtnn::kOutputGrads + inputs +
               ", bool need_geometry, bool need_weights) -> " + tensors(17))
                  .c_str());
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("bond_messages", TORCH_BOX(&dtnn::messages_on<dtnn::bond_messages_cpu>));
  library.impl("bond_messages_backward", TORCH_BOX(&dtnn::backward_on<dtnn::bond_messages_backward_cpu>));
}
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("bond_messages", TORCH_BOX(&dtnn::messages_on<dtnn::bond_messages_cuda>));
  library.impl("bond_messages_backward", TORCH_BOX(&dtnn::backward_on<dtnn::bond_messages_backward_cuda>));
}
#endif
// On CUDA torch's operations compute it (dtnn_fast/ops/bond_messages.py); the emulation of CUDA runs this.
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("bond_messages_double_backward", TORCH_BOX(&dtnn::double_backward_on_cpu));
}
