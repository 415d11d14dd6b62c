// SPDX-License-Identifier: MIT
// decode on CUDA: the networks of all members on tiles of atoms, then the sums over the atoms of each crystal.
#ifdef DTNN_WITH_CUDA

#include "ops/cuda/decode.h"
#include "ops/decode_program.h"
#include "ops/tile_program_cuda.h"

namespace dtnn {
namespace {

template <typename T>
void run(const char* op, const DecodeArgs& args, Tensor& out) {
  const DecodeSizes& sizes = args.sizes;
  const TileProgram program = decode_program(args, {});
  check_num_weights(op, args, program);
  // Faults that no kernel reports, because without crystals or members it reads nothing.
  DTNN_CHECK(sizes.crystals > 0 || sizes.atoms == 0, op, ": expected `ptr` that rises from 0 to the number of atoms, ",
             sizes.atoms, ", with at least one atom a crystal, got one number");
  const OnDeviceOf device(args.scalar);
  void* const stream = current_cuda_stream(op, args.scalar);
  const int64_t readouts = sizes.members * sizes.readouts, slab = sizes.atoms * sizes.latent;
  Tensor atom_tensors = torch::stable::new_empty(args.scalar, {readouts, sizes.atoms, 6});

  TileProgramLaunch<T> launch(program);
  size_t number = 0;
  launch.input(number++, args.scalar.const_data_ptr<T>());
  launch.input(number++, args.vector.const_data_ptr<T>());
  launch.input(number++, args.rank2.const_data_ptr<T>());
  if (args.bond_vector.has_value()) {
    launch.input(number++, args.bond_vector->const_data_ptr<T>());
    launch.input(number++, args.envelope_sum->const_data_ptr<T>());
    const T* const sums = args.bond_sums->const_data_ptr<T>();
    for (int64_t l = 0; l < sizes.blocks; ++l) launch.input(number++, sums + l * slab, sizes.blocks * slab);
  }
  if (args.masks.has_value()) {
    const T* const masks = args.masks->const_data_ptr<T>();
    for (int64_t d = 0; d < sizes.num_masks(); ++d) launch.input(number++, masks + d * slab, sizes.num_masks() * slab);
  }
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

}  // namespace

void decode_cuda(const char* op, const DecodeArgs& args, Tensor& out) {
  if (args.scalar.scalar_type() == ScalarType::Float) return run<float>(op, args, out);
  return run<double>(op, args, out);
}

}  // namespace dtnn
#endif
