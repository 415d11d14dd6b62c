// SPDX-License-Identifier: MIT
#include "ops/decode.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "check_sizes.h"
#include "ops/rank2_linear.h"  // check_precision
#include "registration.h"

#ifdef DTNN_WITH_CUDA
#include "cuda_stream.h"  // DTNN_CUDA_KEY
#endif

namespace dtnn {
namespace {

// The arguments that forward and backward share, as they come.
struct Given {
  const Tensor& scalar;
  const Tensor& vector;
  const Tensor& rank2;
  const OptionalTensor& bond_vector;
  const OptionalTensor& bond_sums;
  const OptionalTensor& envelope_sum;
  const OptionalTensor& masks;
  const Tensor& weights;
  const Tensor& ptr;
  const OptionalTensor& atom_share;
  int64_t blocks;
  int64_t latent;
  int64_t readouts;
  bool residual;
};

DecodeArgs check(const char* op, const Given& given) {
  check_floating(op, "scalar", given.scalar);
  check_shape(op, "scalar", given.scalar, "[N, Cs]", {kAny, kAny});
  const Tensor& first = given.scalar;
  const int64_t atoms = first.size(0), latent = given.latent, blocks = given.blocks, readouts = given.readouts;
  DTNN_CHECK(blocks >= 0 && latent >= 1 && readouts >= 1, op,
             ": expected `blocks` of 0 or more, `latent` and `readouts` of 1 or more, got ", blocks, ", ", latent, ", ",
             readouts);
  const auto check_like_first = [&](const char* name, const Tensor& tensor) {
    check_same_dtype(op, name, tensor, "scalar", first);
    check_same_device(op, name, tensor, "scalar", first);
  };
  const auto check_components = [&](const char* name, const Tensor& tensor, int64_t components) {
    check_like_first(name, tensor);
    const std::string wanted =
        "[N, " + std::to_string(components) + ", C] with N = " + std::to_string(atoms) + " as in `scalar`";
    check_shape(op, name, tensor, wanted.c_str(), {atoms, components, kAny});
  };
  check_components("vector", given.vector, 3);
  check_components("rank2", given.rank2, 6);
  check_like_first("weights", given.weights);
  check_shape(op, "weights", given.weights, "[M, P]", {kAny, kAny});
  const int64_t members = given.weights.size(0);
  // Each block, channel and readout has weights of its own: before a program of absurd size is made.
  const int64_t least = std::max({blocks, latent, readouts});
  DTNN_CHECK(given.weights.size(1) >= least, op, ": expected `weights` of shape [M, P] with P of at least ", least,
             " for these `blocks`, `latent` and `readouts`, got ", describe_shape(given.weights));
  const bool bonds = given.bond_vector.has_value();
  DTNN_CHECK(bonds == given.bond_sums.has_value() && bonds == given.envelope_sum.has_value(), op,
             ": expected all of `bond_vector`, `bond_sums` and `envelope_sum` or none, got some");
  if (bonds) {
    check_components("bond_vector", *given.bond_vector, 3);
    check_like_first("bond_sums", *given.bond_sums);
    check_sizes(op, "bond_sums", *given.bond_sums, "[M L, N, H]", {members * blocks, atoms, latent});
    check_like_first("envelope_sum", *given.envelope_sum);
    check_sizes(op, "envelope_sum", *given.envelope_sum, "[N]", {atoms});
  }
  const DecodeSizes sizes{members,
                          blocks,
                          latent,
                          readouts,
                          given.residual,
                          atoms,
                          given.ptr.defined() && given.ptr.dim() == 1 ? given.ptr.size(0) - 1 : 0,
                          first.size(1),
                          given.vector.size(2),
                          given.rank2.size(2),
                          bonds ? given.bond_vector->size(2) : 0};
  if (given.masks.has_value()) {
    check_like_first("masks", *given.masks);
    check_sizes(op, "masks", *given.masks, "[M, 3 L + 2 R, N, H]", {members, sizes.num_masks(), atoms, latent});
  }
  check_dtype(op, "ptr", given.ptr, ScalarType::Long);
  check_shape(op, "ptr", given.ptr, "[B+1]", {kAny});
  check_same_device(op, "ptr", given.ptr, "scalar", first);
  DTNN_CHECK(given.ptr.size(0) >= 1, op, ": expected `ptr` of shape [B+1], got [0]");
  if (given.atom_share.has_value()) {
    check_like_first("atom_share", *given.atom_share);
    check_sizes(op, "atom_share", *given.atom_share, "[N]", {atoms});
  }
  const auto dense = [](const Tensor& tensor) { return torch::stable::contiguous(tensor); };
  return {sizes,
          dense(given.scalar),
          dense(given.vector),
          dense(given.rank2),
          contiguous(given.bond_vector),
          contiguous(given.bond_sums),
          contiguous(given.envelope_sum),
          contiguous(given.masks),
          dense(given.weights),
          dense(given.ptr),
          contiguous(given.atom_share)};
}

using Kernel = void (*)(const char*, const DecodeArgs&, Tensor&);

// The operation on one device.
template <Kernel kernel>
Tensor decode_on(const Tensor& scalar, const Tensor& vector, const Tensor& rank2, const OptionalTensor& bond_vector,
                 const OptionalTensor& bond_sums, const OptionalTensor& envelope_sum, const OptionalTensor& masks,
                 const Tensor& weights, const Tensor& ptr, const OptionalTensor& atom_share, int64_t blocks,
                 int64_t latent, int64_t readouts, bool residual, int64_t precision) {
  DecodeArgs args = check("decode", {scalar, vector, rank2, bond_vector, bond_sums, envelope_sum, masks, weights, ptr,
                                     atom_share, blocks, latent, readouts, residual});
  check_precision("decode", precision);
  args.precision = precision;
  Tensor out = torch::stable::new_empty(scalar, {args.sizes.members, readouts, args.sizes.crystals, 3, 3});
  kernel("decode", args, out);
  return out;
}

using BackwardKernel = void (*)(const char*, const DecodeArgs&, const Tensor&, const DecodeNeeds&, DecodeGrads&);
using NineTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <BackwardKernel kernel>
NineTensors backward_on(const Tensor& grad, const Tensor& scalar, const Tensor& vector, const Tensor& rank2,
                        const OptionalTensor& bond_vector, const OptionalTensor& bond_sums,
                        const OptionalTensor& envelope_sum, const OptionalTensor& masks, const Tensor& weights,
                        const Tensor& ptr, const OptionalTensor& atom_share, int64_t blocks, int64_t latent,
                        int64_t readouts, bool residual, bool need_atoms, bool need_bonds, bool need_weights,
                        bool need_masks, bool need_share, int64_t precision) {
  const char* op = "decode_backward";
  DecodeArgs args = check(op, {scalar, vector, rank2, bond_vector, bond_sums, envelope_sum, masks, weights, ptr,
                               atom_share, blocks, latent, readouts, residual});
  check_precision(op, precision);
  args.precision = precision;
  check_same_dtype(op, "grad", grad, "scalar", scalar);
  check_same_device(op, "grad", grad, "scalar", scalar);
  check_sizes(op, "grad", grad, "[M, R, B, 3, 3]", {args.sizes.members, readouts, args.sizes.crystals, 3, 3});
  const DecodeNeeds needs{need_atoms, need_bonds && bond_vector.has_value(), need_weights,
                          need_masks && masks.has_value(), need_share && atom_share.has_value()};
  const auto grad_of = [&](const OptionalTensor& tensor, bool needed) {
    return needed ? torch::stable::empty_like(*tensor) : torch::stable::new_empty(scalar, {0});
  };
  DecodeGrads grads{grad_of(args.scalar, needs.atoms),    grad_of(args.vector, needs.atoms),
                    grad_of(args.rank2, needs.atoms),     grad_of(args.bond_vector, needs.bonds),
                    grad_of(args.bond_sums, needs.bonds), grad_of(args.envelope_sum, needs.bonds),
                    grad_of(args.weights, needs.weights), grad_of(args.masks, needs.masks),
                    grad_of(args.atom_share, needs.share)};
  kernel(op, args, torch::stable::contiguous(grad), needs, grads);
  return {grads.scalar,       grads.vector,  grads.rank2, grads.bond_vector, grads.bond_sums,
          grads.envelope_sum, grads.weights, grads.masks, grads.atom_share};
}

}  // namespace
}  // namespace dtnn

DTNN_LIBRARY_FRAGMENT(library) {
  library.def(
      "decode(Tensor scalar, Tensor vector, Tensor rank2, Tensor? bond_vector, Tensor? bond_sums, "
      "Tensor? envelope_sum, Tensor? masks, Tensor weights, Tensor ptr, Tensor? atom_share, int blocks, int latent, "
      "int readouts, bool residual, int precision=0) -> Tensor");
  library.def(
      "decode_backward(Tensor grad, Tensor scalar, Tensor vector, Tensor rank2, Tensor? bond_vector, "
      "Tensor? bond_sums, Tensor? envelope_sum, Tensor? masks, Tensor weights, Tensor ptr, Tensor? atom_share, "
      "int blocks, int latent, int readouts, bool residual, bool need_atoms=True, bool need_bonds=True, "
      "bool need_weights=True, bool need_masks=True, bool need_share=True, int precision=0) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}
#ifndef DTNN_EMULATE_CUDA
DTNN_LIBRARY_IMPL(CPU, library) {
  library.impl("decode", TORCH_BOX(&dtnn::decode_on<dtnn::decode_cpu>));
  library.impl("decode_backward", TORCH_BOX(&dtnn::backward_on<dtnn::decode_backward_cpu>));
}
#endif
#ifdef DTNN_WITH_CUDA
DTNN_LIBRARY_IMPL(DTNN_CUDA_KEY, library) {
  library.impl("decode", TORCH_BOX(&dtnn::decode_on<dtnn::decode_cuda>));
  library.impl("decode_backward", TORCH_BOX(&dtnn::backward_on<dtnn::decode_backward_cuda>));
}
#endif
