// SPDX-License-Identifier: MIT
// Errors that only a kernel can see: the values of indices. A kernel neither stops nor makes the host wait. It writes
// NaN where a bad index would have entered, and notes the first one in a record in pinned memory, one per device, which
// the next call of an operation there turns into an exception (csrc/cuda_stream.h). docs/kernels/index_errors.md has
// the whole picture.
//
// The error that is kept comes from the first call with an error, its first kernel, the lowest number of check and the
// lowest position. So the message does not depend on how the threads of a launch were scheduled.
#pragma once

#include <cstdint>
#include <string>

namespace dtnn::cuda {

// Lives in pinned host memory that the device can write. Kernels fill it (bad_index.h), the host empties it.
struct ErrorRecord {
  unsigned lock;      // among threads of the device
  uint64_t launch;    // number of the launch whose error this is; 0: no error. Written last.
  uint64_t key;       // check << 56 | position
  int64_t value;      // the bad value
  int64_t other;      // what it was compared with, for some checks
  int64_t num_atoms;  // for the message
  int64_t num_bonds;  // for the message
  const char* op;     // for the message; the device only copies these two
  const char* const* texts;
};

// Where the kernels of one launch report. The torch side gives the first three, the launcher the rest.
struct ErrorSink {
  ErrorRecord* record;
  uint64_t launch;
  const char* op;
  // Per check the text after "<op>: ". In it %V is the bad value, %W the value that it was compared with, %P its
  // position, %N and %E the counts. Both live as long as the process.
  const char* const* texts;
  int64_t num_atoms;
  int64_t num_bonds;

  ErrorSink with(const char* const* texts_, int64_t num_atoms_, int64_t num_bonds_) const {
    return {record, launch, op, texts_, num_atoms_, num_bonds_};
  }
};

// A sink for one launch of `op` on `device`, which is the current one. Makes the device's record at the first call,
// also while a stream is being captured into a graph. Without memory for it `record` is null and `problem` says why.
ErrorSink make_error_sink(const char* op, int device, const char** problem);

// Whether a kernel has noted an error on `device`: one read of host memory, no call into CUDA.
bool has_device_error(int device);

// The message of the error noted on `device`, the current one, and an empty record; "" when there is none. Waits for
// the device, so that the message is the one that is promised above, unless `stream` is being captured.
std::string take_device_error(int device, void* stream);

// Whether `stream` is being captured into a graph, when nothing may wait for it.
bool is_capturing(void* stream);

// Waits for `stream`, unless it is being captured into a graph; then false. CUDA's error text, or null, in `problem`.
bool wait_for_stream(void* stream, const char** problem);

}  // namespace dtnn::cuda
