// SPDX-License-Identifier: MIT
// The kernels' side of device_errors.h: how a thread reports an index that it must not use.
#pragma once

#include "device_errors.h"
#include "gpu.h"

namespace dtnn::cuda {

// Written to the output where a bad index would have entered.
template <typename T>
__device__ __forceinline__ T not_a_number() {
  return static_cast<T>(NAN);
}

// A lock, since key and value must fit together; without errors no thread gets here.
inline __device__ void note_error(const ErrorSink& sink, uint64_t key, int64_t value, int64_t other) {
  volatile ErrorRecord* const record = sink.record;
  // When all indices are bad, most threads leave here.
  const uint64_t noted = record->launch;
  if (noted != 0 && (noted != sink.launch || record->texts != sink.texts || record->key <= key)) return;
  for (bool done = false; !done;) {
    if (atomicCAS(&sink.record->lock, 0u, 1u) != 0u) continue;
    __threadfence();
    if (record->launch == 0) {
      record->key = key;
      record->value = value;
      record->other = other;
      record->num_atoms = sink.num_atoms;
      record->num_bonds = sink.num_bonds;
      record->op = sink.op;
      record->texts = sink.texts;
      __threadfence_system();  // the host reads the rest when it sees the launch
      record->launch = sink.launch;
    } else if (record->launch == sink.launch && record->texts == sink.texts && key < record->key) {
      record->key = key;
      record->value = value;
      record->other = other;
    }
    __threadfence_system();
    atomicExch(&sink.record->lock, 0u);
    done = true;
  }
}

// The first bad index that a thread has met, reported once at its end: the branch and the atomics stay out of the loops
// that wait for memory.
class BadIndex {
 public:
  __device__ __forceinline__ void see(unsigned check, int64_t position, int64_t value, int64_t other = 0) {
    const uint64_t key = uint64_t{check} << 56 | static_cast<uint64_t>(position);
    if (key >= key_) return;
    key_ = key;
    value_ = value;
    other_ = other;
  }

  __device__ __forceinline__ void report(const ErrorSink& sink) const {
    if (key_ != kNone) note_error(sink, key_, value_, other_);
  }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};
  uint64_t key_ = kNone;
  int64_t value_ = 0;
  int64_t other_ = 0;
};

}  // namespace dtnn::cuda
