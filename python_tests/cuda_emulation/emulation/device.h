// SPDX-License-Identifier: MIT
// What device code calls to work together: barriers, warp functions, atomics.
#pragma once

#include <cstring>
#include <type_traits>

#include "engine.h"
#include "types.h"

inline void __syncthreads(cuda_emulation::Site site = cuda_emulation::here()) {
  cuda_emulation::block_barrier(cuda_emulation::Barrier::kPlain, 0, site);
}
inline int __syncthreads_count(int predicate, cuda_emulation::Site site = cuda_emulation::here()) {
  return cuda_emulation::block_barrier(cuda_emulation::Barrier::kCount, predicate, site);
}
inline int __syncthreads_and(int predicate, cuda_emulation::Site site = cuda_emulation::here()) {
  return cuda_emulation::block_barrier(cuda_emulation::Barrier::kAnd, predicate, site);
}
inline int __syncthreads_or(int predicate, cuda_emulation::Site site = cuda_emulation::here()) {
  return cuda_emulation::block_barrier(cuda_emulation::Barrier::kOr, predicate, site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, cuda_emulation::Site site = cuda_emulation::here()) {
  cuda_emulation::leave(cuda_emulation::meet("__syncwarp", mask, "", 1, site));
}
inline unsigned __activemask() { return cuda_emulation::active_mask(); }
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}

namespace cuda_emulation {

// The value that lane `source` brought. From a lane that does not take part it is undefined on a GPU, and a NaN here.
template <typename T>
T exchange(const char* what, unsigned mask, T value, unsigned source, Site site) {
  static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  Meeting* const meeting = meet(what, mask, &value, sizeof(T), site);
  T result;
  if (meeting->arrived >> source & 1) {
    std::memcpy(&result, meeting->value[source], sizeof(T));
  } else {
    std::memset(&result, 0xff, sizeof(T));
  }
  leave(meeting);
  return result;
}

// The lanes with a nonzero predicate, and in `mask` the lanes that were there.
inline unsigned ballot(const char* what, unsigned& mask, int predicate, Site site) {
  const int positive = predicate != 0;
  Meeting* const meeting = meet(what, mask, &positive, sizeof(positive), site);
  unsigned result = 0;
  for (unsigned i = 0; i < 32; ++i) {
    int value = 0;
    if (meeting->arrived >> i & 1) std::memcpy(&value, meeting->value[i], sizeof(value));
    result |= static_cast<unsigned>(value) << i;
  }
  mask = meeting->arrived;
  leave(meeting);
  return result;
}

inline unsigned segment_begin(int width) { return lane() & ~(static_cast<unsigned>(width) - 1); }

}  // namespace cuda_emulation

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, cuda_emulation::Site site = cuda_emulation::here()) {
  const unsigned from =
      cuda_emulation::segment_begin(width) + (static_cast<unsigned>(source) & (static_cast<unsigned>(width) - 1));
  return cuda_emulation::exchange("__shfl_sync", mask, value, from, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  cuda_emulation::Site site = cuda_emulation::here()) {
  const unsigned self = cuda_emulation::lane();
  const unsigned from = self ^ static_cast<unsigned>(bits);
  const bool inside = from < cuda_emulation::segment_begin(width) + static_cast<unsigned>(width);
  return cuda_emulation::exchange("__shfl_xor_sync", mask, value, inside ? from : self, site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   cuda_emulation::Site site = cuda_emulation::here()) {
  const unsigned self = cuda_emulation::lane();
  const bool inside = self + delta < cuda_emulation::segment_begin(width) + static_cast<unsigned>(width);
  return cuda_emulation::exchange("__shfl_down_sync", mask, value, inside ? self + delta : self, site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 cuda_emulation::Site site = cuda_emulation::here()) {
  const unsigned self = cuda_emulation::lane();
  const bool inside = self >= cuda_emulation::segment_begin(width) + delta;
  return cuda_emulation::exchange("__shfl_up_sync", mask, value, inside ? self - delta : self, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, cuda_emulation::Site site = cuda_emulation::here()) {
  return cuda_emulation::ballot("__ballot_sync", mask, predicate, site);
}
inline int __any_sync(unsigned mask, int predicate, cuda_emulation::Site site = cuda_emulation::here()) {
  return cuda_emulation::ballot("__any_sync", mask, predicate, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, cuda_emulation::Site site = cuda_emulation::here()) {
  const unsigned positive = cuda_emulation::ballot("__all_sync", mask, predicate, site);
  return positive == mask;  // ballot has reduced the mask to the lanes that were there
}

// Atomics: no fiber is left in the middle of one, so plain code will do. The types are those that CUDA has them for.
namespace cuda_emulation {

template <typename T, typename... Allowed>
constexpr bool is_one_of = (std::is_same<T, Allowed>::value || ...);
template <typename T>
using Same = typename std::common_type<T>::type;  // keeps an argument out of template deduction
using U32 = unsigned;
using U64 = unsigned long long;

template <typename T, typename Function>
T change(T* address, Function function) {
  const T old = *address;
  *address = function(old);
  note_progress();
  return old;
}

}  // namespace cuda_emulation

#define CUDA_EMULATION_ATOMIC(name, expression, ...)                                                 \
  template <typename T>                                                                              \
  T name(T* address, cuda_emulation::Same<T> value) {                                                \
    static_assert(cuda_emulation::is_one_of<T, __VA_ARGS__>, "CUDA has no " #name " for this type"); \
    return cuda_emulation::change(address, [value](T old) { return static_cast<T>(expression); });   \
  }
CUDA_EMULATION_ATOMIC(atomicAdd, old + value, int, cuda_emulation::U32, cuda_emulation::U64, float, double)
CUDA_EMULATION_ATOMIC(atomicSub, old - value, int, cuda_emulation::U32)
CUDA_EMULATION_ATOMIC(atomicMax, old < value ? value : old, int, cuda_emulation::U32, long long, cuda_emulation::U64)
CUDA_EMULATION_ATOMIC(atomicMin, value < old ? value : old, int, cuda_emulation::U32, long long, cuda_emulation::U64)
CUDA_EMULATION_ATOMIC(atomicExch, (static_cast<void>(old), value), int, cuda_emulation::U32, cuda_emulation::U64, float)
CUDA_EMULATION_ATOMIC(atomicAnd, old& value, int, cuda_emulation::U32, cuda_emulation::U64)
CUDA_EMULATION_ATOMIC(atomicOr, old | value, int, cuda_emulation::U32, cuda_emulation::U64)
CUDA_EMULATION_ATOMIC(atomicXor, old ^ value, int, cuda_emulation::U32, cuda_emulation::U64)
#undef CUDA_EMULATION_ATOMIC

template <typename T>
T atomicCAS(T* address, cuda_emulation::Same<T> compare, cuda_emulation::Same<T> value) {
  static_assert(cuda_emulation::is_one_of<T, int, cuda_emulation::U32, cuda_emulation::U64, unsigned short>,
                "CUDA has no atomicCAS for this type");
  const T old = *address;
  if (old == compare) {
    *address = value;
    cuda_emulation::note_progress();
  } else {
    cuda_emulation::spin();
  }
  return old;
}
