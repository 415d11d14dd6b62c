// SPDX-License-Identifier: MIT
// The last step of decode, tensors of atoms summed to those of crystals, and its gradient. The networks are
// tile_program_cuda.cu's and tile_backward_cuda.cu's.
#include <algorithm>

#include "crystals.h"
#include "decode.h"
#include "payload.h"
#include "segment_sums.h"

namespace dtnn::cuda {
namespace {

#define DTNN_RISING_PTR \
  "expected `ptr` that rises from 0 to the number of atoms, %N, with at least one atom a crystal, got "
const char* const kTexts[kPtrChecks] = {DTNN_RISING_PTR "%V to %W", DTNN_RISING_PTR "%V after %W at ptr[%P]",
                                        DTNN_RISING_PTR "none in crystal %P"};
#undef DTNN_RISING_PTR

// A segment is a crystal of one readout, a row an atom of one readout.
template <typename T>
struct AtomTensorRows {
  static constexpr int kNumbers = 6;
  static constexpr int kBlocksPerSm = 4;
  const T* tensors;
  const T* share;
  T* out;
  Crystals crystals;
  Divisor by_atoms;
  Divisor by_crystals;
  int64_t num_rows;
  int64_t num_segments;
  unsigned rows_per_tile;
  ErrorSink errors;

  __device__ __forceinline__ Segment segment_of(int64_t row) const {
    const int64_t readout = by_atoms.quotient(static_cast<unsigned>(row)), before = readout * crystals.num_atoms;
    const int64_t atom = row - before, crystal = crystals.find(atom, 0, crystals.num_crystals);
    if (!crystals.owns(crystal, atom)) return {-1, row, row + 1};
    return {readout * crystals.num_crystals + crystal, before + crystals.begin(crystal),
            before + crystals.begin(crystal + 1)};
  }

  __device__ __forceinline__ bool segment(int64_t index, Segment& segment, BadIndex& bad) const {
    const int64_t readout = by_crystals.quotient(static_cast<unsigned>(index)),
                  crystal = index - readout * crystals.num_crystals;
    const int64_t before = readout * crystals.num_atoms;
    const int64_t begin = crystals.begin(crystal), end = crystals.begin(crystal + 1);
    segment = {index, before + begin, before + end};
    if (!crystals.check(crystal, bad)) return false;
    if (begin != end) return true;
    bad.see(kPtrEmpty, crystal, 0);
    return false;
  }

  __device__ __forceinline__ unsigned items(unsigned rows) const { return rows; }

  __device__ __forceinline__ void add(const Segment&, int64_t first, unsigned item, bool counts, double (&sums)[6],
                                      BadIndex&) const {
    const unsigned row = static_cast<unsigned>(first) + item;
    const unsigned atom = row - by_atoms.quotient(row) * static_cast<unsigned>(crystals.num_atoms);
    const T factor = !counts ? T(0) : share == nullptr ? T(1) : share[atom];
    const T* const six = tensors + int64_t{6} * row;
#pragma unroll
    for (int k = 0; k < 6; ++k) sums[k] += counts ? static_cast<double>(factor * six[k]) : 0.0;
  }

  // What is wrong with ptr is reported for each crystal.
  __device__ __forceinline__ void orphan(int64_t, BadIndex&) const {}

  __device__ __forceinline__ void finish(int64_t index, const double (&sums)[6]) const {
    const int64_t crystal = index - by_crystals.quotient(static_cast<unsigned>(index)) * crystals.num_crystals;
    const double count =
        share == nullptr ? static_cast<double>(crystals.begin(crystal + 1) - crystals.begin(crystal)) : 1.0;
    T six[6];
#pragma unroll
    for (int k = 0; k < 6; ++k) six[k] = static_cast<T>(sums[k] / count);
    const T full[9] = {six[0], six[5], six[4], six[5], six[1], six[3], six[4], six[3], six[2]};
#pragma unroll
    for (int k = 0; k < 9; ++k) out[9 * index + k] = full[k];
  }

  __device__ __forceinline__ void fail(int64_t index) const {
#pragma unroll
    for (int k = 0; k < 9; ++k) out[9 * index + k] = not_a_number<T>();
  }
};

// A thread takes an atom; with the first readout's first chunk of atoms, the threads check all crystals too.
template <typename T>
__global__ void __launch_bounds__(128) fill_tensor_grads(AtomTensorGradsArgs<T> args, int64_t checked) {
  const Crystals crystals{args.ptr, args.num_crystals, args.num_atoms};
  BadIndex bad;
  const int64_t count = args.rows > checked ? args.rows : checked;
  for (int64_t i = int64_t{blockIdx.x} * 128 + threadIdx.x; i < count; i += int64_t{gridDim.x} * 128) {
    if (i < checked && crystals.check(i, bad) && crystals.begin(i) == crystals.begin(i + 1)) bad.see(kPtrEmpty, i, 0);
    if (i >= args.rows) continue;
    const int64_t atom = args.first + i, crystal = crystals.find(atom, 0, args.num_crystals);
    const bool good = crystals.owns(crystal, atom);
    const T count_of_atoms = good ? static_cast<T>(crystals.begin(crystal + 1) - crystals.begin(crystal)) : T(1);
    const T share = !good ? not_a_number<T>() : args.share == nullptr ? T(1) / count_of_atoms : args.share[atom];
    T along = 0;
    for (int64_t m = 0; m < args.num_members; ++m) {
      const T* const g = args.grad + ((m * args.num_readouts + args.readout) * args.num_crystals + crystal) * 9;
      const T six[6] = {g[0], g[4], g[8], g[5] + g[7], g[2] + g[6], g[1] + g[3]};
      const int64_t place = (m * args.member_rows + i) * 6;
#pragma unroll
      for (int k = 0; k < 6; ++k) {
        args.grad_tensors[place + k] = share * six[k];
        if (args.grad_share != nullptr) along += six[k] * args.atom_tensors[place + k];
      }
    }
    if (args.grad_share == nullptr) continue;
    if (!good) along = not_a_number<T>();
    args.grad_share[atom] = args.readout == 0 ? along : args.grad_share[atom] + along;
  }
  bad.report(args.errors);
}

constexpr int64_t kRowsPerTile = 128;
// Crystals of few atoms go to the kernel without tiles.
constexpr int64_t kMostDirectAtoms = int64_t{1} << 16;
constexpr int64_t kMeanDirectAtoms = 256;

}  // namespace

int64_t crystal_tensors_workspace(int64_t num_readouts, int64_t num_atoms) {
  return count_tiles(num_readouts * num_atoms, kRowsPerTile) * static_cast<int64_t>(sizeof(TilePartials<6>));
}

template <typename T>
const char* launch_crystal_tensors(const CrystalTensorsArgs<T>& args, void* stream) {
  if (args.num_readouts == 0 || args.num_crystals == 0) return nullptr;
  if (args.num_readouts * std::max(args.num_atoms, args.num_crystals) > kMaxWidth) {
    return "expected fewer than 2^31 atoms times members times readouts";
  }
  AtomTensorRows<T> source;
  source.tensors = args.atom_tensors;
  source.share = args.share;
  source.out = args.out;
  source.crystals = {args.ptr, args.num_crystals, args.num_atoms};
  source.by_atoms = Divisor(static_cast<unsigned>(std::max<int64_t>(1, args.num_atoms)));
  source.by_crystals = Divisor(static_cast<unsigned>(args.num_crystals));
  source.num_rows = args.num_readouts * args.num_atoms;
  source.num_segments = args.num_readouts * args.num_crystals;
  source.rows_per_tile = static_cast<unsigned>(kRowsPerTile);
  source.errors = args.errors.with(kTexts, args.num_atoms, 0);
  if (args.num_atoms <= kMostDirectAtoms && args.num_atoms <= kMeanDirectAtoms * args.num_crystals) {
    return launch_direct_segment_sums(source, stream);
  }
  // For crystals that a wrong ptr leaves out.
  cudaMemsetAsync(args.out, 0xff, static_cast<size_t>(source.num_segments) * 9 * sizeof(T),
                  static_cast<cudaStream_t>(stream));
  if (const char* const error = launch_error()) return error;
  return launch_segment_sums(source, args.workspace, stream);
}

template <typename T>
const char* launch_atom_tensor_grads(const AtomTensorGradsArgs<T>& arguments, void* stream) {
  if (arguments.rows == 0 || arguments.num_crystals == 0) return nullptr;
  AtomTensorGradsArgs<T> args = arguments;
  args.errors = arguments.errors.with(kTexts, args.num_atoms, 0);
  const int64_t checked = args.first == 0 && args.readout == 0 ? args.num_crystals : 0;
  const int64_t blocks = (std::max(args.rows, checked) + 127) / 128;
  DTNN_LAUNCH(fill_tensor_grads<T>, grid_size(blocks), 128, 0, stream, args, checked);
  return launch_error();
}

template const char* launch_atom_tensor_grads<float>(const AtomTensorGradsArgs<float>&, void*);
template const char* launch_atom_tensor_grads<double>(const AtomTensorGradsArgs<double>&, void*);
template const char* launch_crystal_tensors<float>(const CrystalTensorsArgs<float>&, void*);
template const char* launch_crystal_tensors<double>(const CrystalTensorsArgs<double>&, void*);

}  // namespace dtnn::cuda
