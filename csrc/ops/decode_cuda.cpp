// SPDX-License-Identifier: MIT
// decode on CUDA: the networks of all members on tiles of atoms, then the sums over the atoms of each crystal.
#ifdef DTNN_WITH_CUDA

#include "ops/cuda/decode.h"
#include "ops/decode_program.h"
#include "ops/tile_program_cuda.h"

namespace dtnn {
namespace {

// Calls visit for the inputs of the program in order, with addresses of their gradients where those are needed.
template <typename T, typename Visit>
void for_each_input(const DecodeArgs& args, const DecodeNeeds& needs, DecodeGrads* grads, const Visit& visit) {
  const DecodeSizes& sizes = args.sizes;
  const auto add = [&](const Tensor& values, Tensor* grad, bool needed, int64_t offset, int64_t member_stride) {
    T* const grad_data = needed && grad != nullptr ? grad->mutable_data_ptr<T>() + offset : nullptr;
    visit(cuda::TileInput<T>{values.const_data_ptr<T>() + offset, grad_data, member_stride});
  };
  const auto grad_of = [&](Tensor DecodeGrads::* tensor) { return grads == nullptr ? nullptr : &(grads->*tensor); };
  add(args.scalar, grad_of(&DecodeGrads::scalar), needs.atoms, 0, 0);
  add(args.vector, grad_of(&DecodeGrads::vector), needs.atoms, 0, 0);
  add(args.rank2, grad_of(&DecodeGrads::rank2), needs.atoms, 0, 0);
  const int64_t slab = sizes.atoms * sizes.latent;
  if (args.bond_vector.has_value()) {
    add(*args.bond_vector, grad_of(&DecodeGrads::bond_vector), needs.bonds, 0, 0);
    add(*args.envelope_sum, grad_of(&DecodeGrads::envelope_sum), needs.bonds, 0, 0);
    for (int64_t l = 0; l < sizes.blocks; ++l) {
      add(*args.bond_sums, grad_of(&DecodeGrads::bond_sums), needs.bonds, l * slab, sizes.blocks * slab);
    }
  }
  if (args.masks.has_value()) {
    const int64_t count = sizes.num_masks();
    for (int64_t d = 0; d < count; ++d) {
      add(*args.masks, grad_of(&DecodeGrads::masks), needs.masks, d * slab, count * slab);
    }
  }
}

// Faults that no kernel reports, because without crystals it reads nothing.
void check_crystals(const char* op, const DecodeSizes& sizes) {
  DTNN_CHECK(sizes.crystals > 0 || sizes.atoms == 0, op, ": expected `ptr` that rises from 0 to the number of atoms, ",
             sizes.atoms, ", with at least one atom a crystal, got one number");
}

template <typename T>
void run(const char* op, const DecodeArgs& args, Tensor& out) {
  const DecodeSizes& sizes = args.sizes;
  const TileProgram program = decode_program(args, {});
  check_num_weights(op, args, program);
  check_crystals(op, sizes);
  const OnDeviceOf device(args.scalar);
  void* const stream = current_cuda_stream(op, args.scalar);
  const int64_t readouts = sizes.members * sizes.readouts;
  Tensor atom_tensors = torch::stable::new_empty(args.scalar, {readouts, sizes.atoms, 6});

  TileProgramLaunch<T> launch(program);
  size_t number = 0;
  for_each_input<T>(args, {}, nullptr,
                    [&](const cuda::TileInput<T>& input) { launch.input(number++, input.data, input.member_stride); });
  T* const tensors = atom_tensors.mutable_data_ptr<T>();
  for (int64_t r = 0; r < sizes.readouts; ++r) {
    launch.output(static_cast<size_t>(r), tensors + r * sizes.atoms * 6, sizes.readouts * sizes.atoms * 6);
  }
  const T* const weights = args.weights.const_data_ptr<T>();
  launch.run(op, args.scalar, {weights, program.num_weights(), sizes.members, sizes.atoms}, stream);

  Tensor workspace =
      torch::stable::new_empty(args.scalar, {cuda::crystal_tensors_workspace(readouts, sizes.atoms)}, ScalarType::Byte);
  const cuda::CrystalTensorsArgs<T> sums{tensors,
                                         data_or_null<T>(args.atom_share),
                                         args.ptr.const_data_ptr<int64_t>(),
                                         out.mutable_data_ptr<T>(),
                                         workspace.mutable_data_ptr(),
                                         readouts,
                                         sizes.atoms,
                                         sizes.crystals,
                                         error_sink(op, args.scalar)};
  check_launch(op, cuda::launch_crystal_tensors<T>(sums, stream), args.scalar, stream);
}

template <typename T>
void run_backward(const char* op, const DecodeArgs& args, const Tensor& grad, const DecodeNeeds& needs,
                  DecodeGrads& grads) {
  const DecodeSizes& sizes = args.sizes;
  const TileProgram program = decode_program(args, needs);
  check_num_weights(op, args, program);
  check_crystals(op, sizes);
  const OnDeviceOf device(args.scalar);
  void* const stream = current_cuda_stream(op, args.scalar);
  cuda::TileBackwardArgs<T> tiles{{},
                                  {},
                                  args.weights.const_data_ptr<T>(),
                                  needs.weights ? grads.weights.mutable_data_ptr<T>() : nullptr,
                                  sizes.members,
                                  sizes.atoms};
  for_each_input<T>(args, needs, &grads, [&](const cuda::TileInput<T>& input) { tiles.inputs.push_back(input); });
  const size_t readouts = static_cast<size_t>(sizes.readouts);
  tiles.grad_outputs.assign(readouts, {nullptr, 0});
  if (needs.share && sizes.members == 0) torch::stable::zero_(grads.atom_share);
  run_tile_backward<T>(op, args.scalar, program, std::vector<bool>(readouts, true),
                       std::vector<bool>(readouts, needs.share), tiles, stream,
                       [&](cuda::TileBackwardRun<T>& run, int64_t chunk) {
                         for (size_t r = 0; r < readouts; ++r) {
                           const cuda::AtomTensorGradsArgs<T> tensor_grads{
                               grad.const_data_ptr<T>(),
                               data_or_null<T>(args.atom_share),
                               args.ptr.const_data_ptr<int64_t>(),
                               needs.share ? run.output(r) : nullptr,
                               run.grad_output(r),
                               needs.share ? grads.atom_share.mutable_data_ptr<T>() : nullptr,
                               sizes.members,
                               sizes.readouts,
                               static_cast<int64_t>(r),
                               sizes.atoms,
                               sizes.crystals,
                               run.member_rows(),
                               run.first_row(chunk),
                               run.rows_of(chunk),
                               error_sink(op, args.scalar)};
                           check_launch(op, cuda::launch_atom_tensor_grads<T>(tensor_grads, stream));
                         }
                       });
  check_launch(op, nullptr, args.scalar, stream);
}

}  // namespace

void decode_cuda(const char* op, const DecodeArgs& args, Tensor& out) {
  if (args.scalar.scalar_type() == ScalarType::Float) return run<float>(op, args, out);
  return run<double>(op, args, out);
}

void decode_backward_cuda(const char* op, const DecodeArgs& args, const Tensor& grad, const DecodeNeeds& needs,
                          DecodeGrads& grads) {
  if (args.scalar.scalar_type() == ScalarType::Float) return run_backward<float>(op, args, grad, needs, grads);
  return run_backward<double>(op, args, grad, needs, grads);
}

}  // namespace dtnn
#endif
