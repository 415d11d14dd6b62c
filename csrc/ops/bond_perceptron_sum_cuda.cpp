// SPDX-License-Identifier: MIT
// bond_perceptron_sum on CUDA: the values of all bonds for some members, then their sums at the atoms. Backward goes by
// chunks of bonds for all members.
#ifdef DTNN_WITH_CUDA

#include <algorithm>

#include "ops/bond_perceptron_sum.h"
#include "ops/cuda/bond_perceptron_sum.h"
#include "ops/tile_program_cuda.h"

namespace dtnn {
namespace {

// Values that stand in memory at a time: more members than one only where lists are short.
constexpr int64_t kMostValues = int64_t{1} << 24;

template <typename T>
cuda::BondValueEnds<T> ends_of(const char* op, const BondPerceptrons& args) {
  return {args.envelope.const_data_ptr<T>(),
          data_or_null<T>(args.sum_scalar),
          args.pairs.const_data_ptr<int64_t>(),
          args.row_ptr.const_data_ptr<int64_t>(),
          args.neighbor_order.has_value() ? args.neighbor_order->const_data_ptr<int64_t>() : nullptr,
          args.neighbor_row_ptr.has_value() ? args.neighbor_row_ptr->const_data_ptr<int64_t>() : nullptr,
          args.num_atoms(),
          args.num_bonds(),
          error_sink(op, args.bond_scalar)};
}

// The weights of all members in the order of the program. [M, P]
template <typename T>
Tensor flat_weights(const char* op, const BondPerceptrons& args, const TileProgram& program, void* stream) {
  const int64_t members = args.num_members();
  cuda::PerceptronParts<T> parts{};
  int number = 0;
  for (const Tensor* part : {&args.weight1, &args.bias1, &args.weight2, &args.bias2}) {
    parts.data[number] = part->const_data_ptr<T>();
    parts.sizes[number++] = members == 0 ? 0 : part->numel() / members;
  }
  Tensor flat = torch::stable::new_empty(args.bond_scalar, {members, program.num_weights()});
  check_launch(op, cuda::launch_join_parts<T>(parts, flat.mutable_data_ptr<T>(), members, stream));
  return flat;
}

template <typename T>
void run(const BondPerceptrons& args, Tensor& sums, Tensor& envelope_sum) {
  const char* op = "bond_perceptron_sum";
  const int64_t bonds = args.num_bonds(), atoms = args.num_atoms(), members = args.num_members();
  const int64_t outputs = args.outputs();
  DTNN_CHECK(args.neighbor_order.has_value(), op,
             ": expected `neighbor_order` and `neighbor_row_ptr` for the neighbors' ends, got none");
  // Without atoms no kernel runs that would report this.
  DTNN_CHECK(atoms > 0 || bonds == 0, op, ": expected `row_ptr` from 0 to the number of bonds, ", bonds,
             ", got one number for 0 atoms");
  const OnDeviceOf device(args.bond_scalar);
  void* const stream = current_cuda_stream(op, args.bond_scalar);
  const cuda::BondValueEnds<T> ends = ends_of<T>(op, args);
  const TileProgram program = bond_perceptron_program(args, false, false);
  const Tensor flat = flat_weights<T>(op, args, program, stream);
  const T* const weights = flat.const_data_ptr<T>();

  const int64_t per_member = bonds * outputs;
  const int64_t group =
      std::clamp<int64_t>(kMostValues / std::max<int64_t>(1, per_member), 1, std::max<int64_t>(1, members));
  Tensor values = torch::stable::new_empty(args.bond_scalar, {std::min(group, members), bonds, outputs});
  T* const value_data = values.mutable_data_ptr<T>();
  for (int64_t first = 0; first < members; first += group) {
    const int64_t count = std::min(group, members - first);
    TileProgramLaunch<T> launch(program);
    launch.input(0, args.bond_scalar.const_data_ptr<T>());
    launch.output(0, value_data, per_member);
    const T* const group_weights = weights + first * program.num_weights();
    launch.run(op, args.bond_scalar, {group_weights, program.num_weights(), count, bonds}, stream);
    T* const group_sums = sums.mutable_data_ptr<T>() + first * atoms * outputs;
    check_launch(op, cuda::launch_bond_value_sums<T>(ends, value_data, group_sums, count, outputs, stream));
  }
  check_launch(op, cuda::launch_envelope_sum<T>(ends, envelope_sum.mutable_data_ptr<T>(), stream), args.bond_scalar,
               stream);
}

template <typename T>
void run_backward(const BondPerceptrons& args, BondPerceptronGrads& grads) {
  const char* op = "bond_perceptron_sum_backward";
  const int64_t members = args.num_members(), bonds = args.num_bonds();
  DTNN_CHECK(args.num_atoms() > 0 || bonds == 0, op, ": expected `row_ptr` from 0 to the number of bonds, ", bonds,
             ", got one number for 0 atoms");
  const OnDeviceOf device(args.bond_scalar);
  void* const stream = current_cuda_stream(op, args.bond_scalar);
  const cuda::BondValueEnds<T> ends = ends_of<T>(op, args);
  const TileProgram program = bond_perceptron_program(args, grads.need_scalar, grads.need_weights);
  const Tensor flat = flat_weights<T>(op, args, program, stream);
  Tensor flat_grads = torch::stable::new_empty(
      args.bond_scalar, {grads.need_weights ? members : 0, grads.need_weights ? program.num_weights() : 0});
  const auto if_needed = [](bool needed, Tensor& tensor) { return needed ? tensor.mutable_data_ptr<T>() : nullptr; };
  cuda::BondValueGrads<T> value_grads{};
  value_grads.grad_sums = data_or_null<T>(grads.grad_sums);
  value_grads.grad_envelope_sum = data_or_null<T>(grads.grad_envelope_sum);
  value_grads.envelope = if_needed(grads.need_envelope, grads.envelope);
  value_grads.factors = if_needed(grads.need_sum_scalar, grads.sum_scalar);
  value_grads.members = members;
  value_grads.outputs = args.outputs();
  const bool given = grads.grad_sums.has_value() && members > 0, dots = grads.need_envelope || grads.need_sum_scalar;
  if (!given) value_grads.grad_sums = nullptr;
  const cuda::TileBackwardArgs<T> tiles{
      {{args.bond_scalar.const_data_ptr<T>(), if_needed(grads.need_scalar, grads.scalar), 0}},
      {{nullptr, 0}},
      flat.const_data_ptr<T>(),
      if_needed(grads.need_weights, flat_grads),
      members,
      bonds};
  if (!given) {  // all bonds at once, which have no values
    value_grads.rows = bonds;
    check_launch(op, cuda::launch_bond_value_grads<T>(ends, value_grads, stream));
  }
  run_tile_backward<T>(op, args.bond_scalar, program, {given}, {given && dots}, tiles, stream,
                       [&](cuda::TileBackwardRun<T>& run, int64_t chunk) {
                         if (!given) return;
                         value_grads.values = dots ? run.output(0) : nullptr;
                         value_grads.grad_values = run.grad_output(0);
                         value_grads.value_rows = run.member_rows();
                         value_grads.first = run.first_row(chunk);
                         value_grads.rows = run.rows_of(chunk);
                         check_launch(op, cuda::launch_bond_value_grads<T>(ends, value_grads, stream));
                       });
  if (grads.need_weights) {
    cuda::PerceptronPartGrads<T> parts{};
    int number = 0;
    for (Tensor* part : {&grads.weight1, &grads.bias1, &grads.weight2, &grads.bias2}) {
      parts.data[number] = part->mutable_data_ptr<T>();
      parts.sizes[number++] = members == 0 ? 0 : part->numel() / members;
    }
    check_launch(op, cuda::launch_split_parts<T>(flat_grads.const_data_ptr<T>(), parts, members, stream));
  }
  check_launch(op, nullptr, args.bond_scalar, stream);
}

}  // namespace

void bond_perceptron_sum_cuda(const BondPerceptrons& args, Tensor& sums, Tensor& envelope_sum) {
  if (args.bond_scalar.scalar_type() == ScalarType::Float) return run<float>(args, sums, envelope_sum);
  return run<double>(args, sums, envelope_sum);
}

void bond_perceptron_sum_backward_cuda(const BondPerceptrons& args, BondPerceptronGrads& grads) {
  if (args.bond_scalar.scalar_type() == ScalarType::Float) return run_backward<float>(args, grads);
  return run_backward<double>(args, grads);
}

}  // namespace dtnn
#endif
