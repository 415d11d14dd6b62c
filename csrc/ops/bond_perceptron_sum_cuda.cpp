// SPDX-License-Identifier: MIT
// bond_perceptron_sum on CUDA: the values of all bonds for some members, then their sums at the atoms.
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
  const cuda::BondValueEnds<T> ends{args.envelope.const_data_ptr<T>(),
                                    data_or_null<T>(args.sum_scalar),
                                    args.pairs.const_data_ptr<int64_t>(),
                                    args.row_ptr.const_data_ptr<int64_t>(),
                                    args.neighbor_order->const_data_ptr<int64_t>(),
                                    args.neighbor_row_ptr->const_data_ptr<int64_t>(),
                                    atoms,
                                    bonds,
                                    error_sink(op, args.bond_scalar)};
  const TileProgram program = bond_perceptron_program(args, false, false);
  cuda::PerceptronParts<T> parts{};
  int number = 0;
  for (const Tensor* part : {&args.weight1, &args.bias1, &args.weight2, &args.bias2}) {
    parts.data[number] = part->const_data_ptr<T>();
    parts.sizes[number++] = members == 0 ? 0 : part->numel() / members;
  }
  Tensor flat = torch::stable::new_empty(args.bond_scalar, {members, program.num_weights()});
  const T* const weights = flat.const_data_ptr<T>();
  check_launch(op, cuda::launch_join_parts<T>(parts, flat.mutable_data_ptr<T>(), members, stream));

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

}  // namespace

void bond_perceptron_sum_cuda(const BondPerceptrons& args, Tensor& sums, Tensor& envelope_sum) {
  if (args.bond_scalar.scalar_type() == ScalarType::Float) return run<float>(args, sums, envelope_sum);
  return run<double>(args, sums, envelope_sum);
}

}  // namespace dtnn
#endif
