// SPDX-License-Identifier: MIT
// Kernels that test the emulation itself: right ones, and the same with one known mistake each. All have the signature
// (const float* in, float* out, int64_t n); test_emulation.py says what each must lead to.
#include <vector>

#include "async_copy.h"
#include "cases.h"
#include "gpu.h"

namespace {

constexpr unsigned kThreads = 128;
using dtnn::cuda::launch_error;

template <typename T>
__device__ T warp_sum(T value) {
  for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// Sum of a block's values, in thread 0. `Synchronised` = false leaves out the barrier between writing and reading.
template <typename T, bool Synchronised>
__device__ T block_sum(T value) {
  DTNN_SHARED_ARRAY(T, part, 32);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  value = warp_sum(value);
  if (lane == 0) part[warp] = value;
  if (Synchronised) __syncthreads();
  if (warp == 0) value = warp_sum(lane < blockDim.x / 32 ? part[lane] : T(0));
  return value;
}

template <bool Synchronised>
__global__ void reduce(const float* in, float* out, int64_t n) {
  float sum = 0;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x)
    sum += in[i];
  sum = block_sum<float, Synchronised>(sum);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// Reverses the block's part of `in` through dynamic shared memory; `Extra` more elements are written than there are.
template <int Extra>
__global__ void reverse(const float* in, float* out, int64_t n) {
  DTNN_DYNAMIC_SHARED(float, tile);
  const int64_t count = n < blockDim.x ? n : blockDim.x;
  if (threadIdx.x < count + Extra) tile[threadIdx.x] = threadIdx.x < count ? in[threadIdx.x] : 0.0f;
  __syncthreads();
  if (threadIdx.x < count) out[threadIdx.x] = tile[count - 1 - threadIdx.x];
}

// Reads an element of a static array that no thread has written.
__global__ void read_unwritten(const float* in, float* out, int64_t n) {
  DTNN_SHARED_ARRAY(float, tile, kThreads);
  if (threadIdx.x + 1 < n) tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  if (threadIdx.x < n) out[threadIdx.x] = tile[threadIdx.x];
}

// Reverses packs of 4 through asynchronous copies; `Waits` = false reads before they are there, and waits only then.
template <bool Waits>
__global__ void reverse_packs(const float* in, float* out, int64_t n) {
  using Four = dtnn::cuda::Pack<float, 4>;
  DTNN_SHARED_ARRAY(Four, tile, kThreads);
  const unsigned packs = static_cast<unsigned>(n) / 4;
  if (threadIdx.x < packs) dtnn::cuda::copy_async(tile + threadIdx.x, in + 4 * threadIdx.x, threadIdx.x > 0);
  if (Waits) dtnn::cuda::wait_for_copies();
  __syncthreads();
  for (unsigned i = threadIdx.x; i < 4 * packs; i += blockDim.x) out[i] = tile[packs - 1 - i / 4].item[i % 4];
  __syncthreads();
  dtnn::cuda::wait_for_copies();
}

// Returns while a copy is under way.
__global__ void forgotten_copy(const float* in, float*, int64_t) {
  using Four = dtnn::cuda::Pack<float, 4>;
  DTNN_SHARED_ARRAY(Four, tile, kThreads);
  dtnn::cuda::copy_async(tile + threadIdx.x, in, threadIdx.x > 0);
}

// Reads an element of the dynamic array that no thread has written.
__global__ void read_unwritten_dynamic(const float* in, float* out, int64_t n) {
  DTNN_DYNAMIC_SHARED(float, tile);
  if (threadIdx.x + 1 < n) tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  if (threadIdx.x < n) out[threadIdx.x] = tile[threadIdx.x];
}

// Only the first block that runs writes what all read.
__global__ void read_other_blocks_shared(const float* in, float* out, int64_t n) {
  DTNN_SHARED(float, kept);
  if (blockIdx.x == 0 && threadIdx.x == 0) kept = in[0];
  __syncthreads();
  if (threadIdx.x == 0 && blockIdx.x < n) out[blockIdx.x] = kept;
}

// A write behind the end of a static array.
__global__ void static_overrun(const float* in, float* out, int64_t n) {
  DTNN_SHARED_ARRAY(float, tile, kThreads);
  tile[threadIdx.x + 1] = in[threadIdx.x];
  __syncthreads();
  if (threadIdx.x < n) out[threadIdx.x] = tile[threadIdx.x];
}

// Each lane reads its neighbor's element, with `Synchronised` = false before that has surely been written.
template <bool Synchronised>
__global__ void rotate_lanes(const float* in, float* out, int64_t n) {
  DTNN_SHARED_ARRAY(float, tile, kThreads);
  const unsigned t = threadIdx.x;
  tile[t] = in[t];
  if (Synchronised) __syncwarp();
  if (t < n) out[t] = tile[t / 32 * 32 + (t + 1) % 32];
}

// Blocks read what the block before them has written: nothing says that it has run.
__global__ void chained_blocks(const float* in, float* out, int64_t n) {
  if (threadIdx.x == 0 && blockIdx.x < n) out[blockIdx.x] = in[0] + (blockIdx.x == 0 ? 0.0f : out[blockIdx.x - 1]);
}

// An atomic would be right; the plain addition is not once another thread comes in between.
__global__ void lost_updates(const float*, float* out, int64_t) {
  DTNN_SHARED(int, counter);
  if (threadIdx.x == 0) counter = 0;
  __syncthreads();
  const int before = counter;
  __syncwarp();
  counter = before + 1;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = static_cast<float>(counter);
}

// Barriers of different kinds at once.
__global__ void mixed_barriers(const float* in, float* out, int64_t n) {
  if (threadIdx.x < n) {
    out[threadIdx.x] = in[threadIdx.x] * static_cast<float>(__syncthreads_count(1));
  } else {
    __syncthreads_or(1);
  }
}

// Reads one element behind the input.
__global__ void global_overrun(const float* in, float* out, int64_t n) {
  if (threadIdx.x < n) out[threadIdx.x] = in[threadIdx.x + 1];
}

// Reads 16 bytes at once from an address that is a multiple of 4.
__global__ void misaligned(const float* in, float* out, int64_t) {
  const float4 four = *reinterpret_cast<const float4*>(in + 1);
  out[threadIdx.x] = four.x;
}

__global__ void barrier_in_branches(const float* in, float* out, int64_t n) {
  if (threadIdx.x < n) {
    out[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void return_before_barrier(const float* in, float* out, int64_t n) {
  if (threadIdx.x >= n) return;
  __syncthreads();
  out[threadIdx.x] = in[threadIdx.x];
}

// Half of a warp names all lanes in a shuffle, and the other half is at a ballot.
__global__ void divergent_shuffle(const float* in, float* out, int64_t) {
  if (threadIdx.x % 32 < 16) {
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, in[threadIdx.x], 1);
  } else {
    out[threadIdx.x] = static_cast<float>(__ballot_sync(0xffffffffu, 1));
  }
}

// Lane 0 reads from a lane that is not in the mask.
__global__ void shuffle_from_absent(const float* in, float* out, int64_t) {
  if (threadIdx.x < 8) out[threadIdx.x] = __shfl_sync(0xffu, in[threadIdx.x], 9);
}

// A lock that its holder never releases.
__global__ void lost_lock(const float*, float*, int64_t) {
  DTNN_SHARED(int, lock);
  if (threadIdx.x == 0) lock = 0;
  __syncthreads();
  while (atomicCAS(&lock, 0, 1) != 0) {
  }
}

// Right uses of everything else, each checked in the kernel; out[t] is the number of the first wrong one, or 0.
__global__ void all_functions(const float*, float* out, int64_t) {
  DTNN_SHARED(int, counter);
  DTNN_SHARED(float, total);
  using Row = int[33];
  DTNN_SHARED_ARRAY(Row, grid, 32);
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  int wrong = 0;
  const auto check = [&wrong](int number, bool right) {
    if (!right && wrong == 0) wrong = number;
  };
  if (t == 0) counter = 0, total = 0;
  check(1, __syncthreads_count(t < 5) == 5);
  check(2, __syncthreads_or(t == 100) == 1 && __syncthreads_or(0) == 0);
  check(3, __syncthreads_and(1) == 1 && __syncthreads_and(t != 100) == 0);
  atomicAdd(&counter, 1);
  atomicAdd(&total, 0.5f);
  __syncthreads();
  check(4, counter == static_cast<int>(blockDim.x) && total == 0.5f * blockDim.x);
  check(5, __shfl_sync(~0u, lane, 37) == 5 && __shfl_sync(~0u, lane, 1, 8) == lane / 8 * 8 + 1);
  check(6, __shfl_up_sync(~0u, lane, 3) == (lane < 3 ? lane : lane - 3));
  check(7, __shfl_up_sync(~0u, lane, 3, 8) == (lane % 8 < 3 ? lane : lane - 3));
  check(8, __shfl_down_sync(~0u, lane, 3) == (lane > 28 ? lane : lane + 3));
  check(9, __shfl_down_sync(~0u, lane, 3, 8) == (lane % 8 > 4 ? lane : lane + 3));
  check(10, __shfl_xor_sync(~0u, 1.5 * lane, 7) == 1.5 * (lane ^ 7));
  check(11, __ballot_sync(~0u, lane % 2) == 0xaaaaaaaau);
  check(12, __any_sync(~0u, lane == 3) == 1 && __any_sync(~0u, 0) == 0);
  check(13, __all_sync(~0u, lane >= 0) == 1 && __all_sync(~0u, lane > 0) == 0);
  // A diverged warp: both halves shuffle among themselves, at different places.
  if (lane < 16) {
    check(14, __shfl_xor_sync(0x0000ffffu, lane, 1) == (lane ^ 1));
  } else {
    check(15, __shfl_xor_sync(0xffff0000u, lane, 2) == (lane ^ 2));
  }
  __syncwarp();
  if (t < 32) {
    for (int i = 0; i < 32; ++i) grid[i][lane] = i * 32 + lane;
    __syncwarp();
    for (int i = 0; i < 32; ++i) check(16, grid[lane][i] == lane * 32 + i);
  }
  __syncthreads();
  if (t == 0) counter = 7;
  __syncthreads();
  atomicMax(&counter, t);
  __syncthreads();
  check(17, counter == static_cast<int>(blockDim.x) - 1);
  __syncthreads();
  atomicMin(&counter, t - 3);
  __syncthreads();
  check(18, counter == -3);
  __syncthreads();
  if (t == 1) check(19, atomicExch(&counter, 0) == -3);
  __syncthreads();
  // A lock that is released: the critical sections do not overlap.
  for (bool done = false; !done;) {
    if (atomicCAS(&counter, 0, 1) == 0) {
      total += 1.0f;
      atomicExch(&counter, 0);
      done = true;
    }
  }
  __syncthreads();
  check(20, total == 1.5f * blockDim.x);
  __syncthreads();
  unsigned long long* const word = reinterpret_cast<unsigned long long*>(&grid[0][0]);
  if (t == 0) *word = ~0ull;
  __syncthreads();
  atomicMin(word, (1ull << 40) + static_cast<unsigned long long>(t));
  __syncthreads();
  check(23, *word == 1ull << 40);
  __syncthreads();
  atomicAdd(word, 1ull << 33);
  __syncthreads();
  check(24, *word == (1ull << 40) + (static_cast<unsigned long long>(blockDim.x) << 33));
  __syncthreads();
  if (t == 0) counter = 0;
  __syncthreads();
  atomicOr(&counter, 1 << lane);
  __syncthreads();
  check(25, counter == -1);
  __syncthreads();
  atomicAnd(&counter, ~(1 << 5));
  __syncthreads();
  check(26, static_cast<unsigned>(counter) == 0xffffffdfu);
  check(21, __popc(0xf0u) == 4 && __ffs(8) == 4 && __clz(1) == 31 && __umulhi(1u << 31, 6u) == 3u);
  check(22, __float_as_int(1.0f) == 0x3f800000 && rsqrtf(4.0f) == 0.5f && __fmul_rn(3.0f, 2.0f) == 6.0f);
  out[t] = static_cast<float>(wrong);
}

// Lanes that return before a shuffle of the full mask are not waited for.
__global__ void exited_lanes(const float*, float* out, int64_t n) {
  if (threadIdx.x >= n) return;
  out[threadIdx.x] = static_cast<float>(__popc(__ballot_sync(0xffffffffu, 1)));
}

// Each thread's place in the grid, for a three-dimensional launch.
__global__ void places(const float*, float* out, int64_t) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += static_cast<float>(block * 1000 + thread);
}

template <typename Kernel>
const char* run(Kernel kernel, const float* in, float* out, int64_t n, dim3 grid = 1, dim3 block = kThreads,
                size_t shared = 0) {
  DTNN_LAUNCH(kernel, grid, block, shared, nullptr, in, out, n);
  return launch_error();
}

}  // namespace

#define SELFTEST(name) extern "C" const char* selftest_##name(const float* in, float* out, int64_t n)
SELFTEST(reduce) { return run(reduce<true>, in, out, n, 4); }
SELFTEST(reduce_without_barrier) { return run(reduce<false>, in, out, n, 4); }
SELFTEST(reverse) { return run(reverse<0>, in, out, n, 1, kThreads, static_cast<size_t>(n) * sizeof(float)); }
SELFTEST(reverse_overrun) { return run(reverse<1>, in, out, n, 1, kThreads, static_cast<size_t>(n) * sizeof(float)); }
SELFTEST(read_unwritten) { return run(read_unwritten, in, out, n); }
SELFTEST(reverse_packs) { return run(reverse_packs<true>, in, out, n); }
SELFTEST(reverse_packs_without_wait) { return run(reverse_packs<false>, in, out, n); }
SELFTEST(forgotten_copy) { return run(forgotten_copy, in, out, n); }
SELFTEST(read_unwritten_dynamic) {
  return run(read_unwritten_dynamic, in, out, n, 1, kThreads, static_cast<size_t>(n) * sizeof(float));
}
SELFTEST(read_other_blocks_shared) { return run(read_other_blocks_shared, in, out, n, 4); }
SELFTEST(static_overrun) { return run(static_overrun, in, out, n); }
SELFTEST(rotate_lanes) { return run(rotate_lanes<true>, in, out, n); }
SELFTEST(rotate_lanes_without_syncwarp) { return run(rotate_lanes<false>, in, out, n); }
SELFTEST(chained_blocks) { return run(chained_blocks, in, out, n, 8, 32); }
SELFTEST(lost_updates) { return run(lost_updates, in, out, n, 1, 32); }
SELFTEST(mixed_barriers) { return run(mixed_barriers, in, out, n); }
SELFTEST(global_overrun) { return run(global_overrun, in, out, n); }
SELFTEST(misaligned) { return run(misaligned, in, out, n, 1, 1); }
SELFTEST(barrier_in_branches) { return run(barrier_in_branches, in, out, n); }
SELFTEST(return_before_barrier) { return run(return_before_barrier, in, out, n); }
SELFTEST(divergent_shuffle) { return run(divergent_shuffle, in, out, n); }
SELFTEST(shuffle_from_absent) { return run(shuffle_from_absent, in, out, n); }
SELFTEST(lost_lock) { return run(lost_lock, in, out, n); }
SELFTEST(all_functions) { return run(all_functions, in, out, n); }
SELFTEST(exited_lanes) { return run(exited_lanes, in, out, n); }
SELFTEST(places) { return run(places, in, out, n, dim3(3, 2, 2), dim3(4, 3, 5)); }
SELFTEST(large_block) { return run(places, in, out, n, 1, dim3(32, 33)); }
SELFTEST(empty_grid) { return run(places, in, out, n, 0); }
SELFTEST(large_grid) { return run(places, in, out, n, dim3(1, 65536)); }
SELFTEST(large_shared) { return run(reverse<0>, in, out, n, 1, kThreads, 49 * 1024); }
SELFTEST(large_shared_allowed) {
  cudaFuncSetAttribute(reverse<0>, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024);
  return run(reverse<0>, in, out, n, 1, kThreads, 49 * 1024);
}

DTNN_CASE(selftest_reverse) {
  const std::vector<float> in = dtnn::cases::integers<float>(100);
  std::vector<float> out(100);
  const char* const error = selftest_reverse(in.data(), out.data(), 100);
  return error == nullptr ? "" : error;
}

DTNN_CASE(selftest_overrun) {
  const std::vector<float> in = dtnn::cases::integers<float>(100);
  std::vector<float> out(100);
  const char* const error = selftest_reverse_overrun(in.data(), out.data(), 100);
  return error == nullptr ? "" : error;
}

// What the sanitizers must find: the case ends the process.
std::string run_exact(const char* (*selftest)(const float*, float*, int64_t)) {
  const std::vector<float> in = dtnn::cases::integers<float>(kThreads);
  std::vector<float> out(kThreads);
  const char* const error = selftest(in.data(), out.data(), kThreads);
  return error == nullptr ? "" : error;
}
DTNN_CASE(selftest_static_overrun) { return run_exact(selftest_static_overrun); }
DTNN_CASE(selftest_global_overrun) { return run_exact(selftest_global_overrun); }
DTNN_CASE(selftest_misaligned) { return run_exact(selftest_misaligned); }

// A launch that fails leaves suspended fibers behind; the next one must not trip over what is on their stacks.
DTNN_CASE(selftest_recovers) {
  const std::vector<float> in = dtnn::cases::integers<float>(kThreads);
  std::vector<float> out(kThreads);
  if (selftest_divergent_shuffle(in.data(), out.data(), kThreads) == nullptr) return "the deadlock was not reported";
  const char* const error = selftest_all_functions(in.data(), out.data(), kThreads);
  return error == nullptr ? "" : error;
}
