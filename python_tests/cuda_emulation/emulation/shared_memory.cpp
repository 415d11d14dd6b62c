// SPDX-License-Identifier: MIT
#include "shared_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace cuda_emulation {
namespace {

constexpr size_t kAlignment = 16;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kGuard = 0;  // the allocation's own red zones begin at its last byte
#else
constexpr size_t kGuard = 64;
#endif
constexpr unsigned char kGuardByte = 0xa5;
constexpr unsigned char kPoison = 0xff;  // a NaN as float and double, -1 as an integer

bool is_guard(const unsigned char* begin, size_t bytes) {
  return std::all_of(begin, begin + bytes, [](unsigned char byte) { return byte == kGuardByte; });
}

}  // namespace

void SharedArray::Free::operator()(unsigned char* memory) const { std::free(memory); }

SharedArray::SharedArray(const void* tag, size_t bytes)
    : tag_(tag),
      bytes_(bytes),
      memory_(static_cast<unsigned char*>(std::malloc(std::max<size_t>(bytes + 2 * kGuard, kAlignment)))),
      data_(memory_.get() + kGuard) {
  std::memset(memory_.get(), kGuardByte, bytes + 2 * kGuard);
  poison();
}

void SharedArray::poison() { std::memset(data_, kPoison, bytes_); }

bool SharedArray::intact() const { return is_guard(memory_.get(), kGuard) && is_guard(data_ + bytes_, kGuard); }

void* SharedMemory::find(const void* tag, size_t bytes) {
  for (const SharedArray& array : static_) {
    if (array.tag() == tag) return array.data();
  }
  return static_.emplace_back(tag, bytes).data();
}

size_t SharedMemory::static_bytes() const {
  size_t sum = 0;
  for (const SharedArray& array : static_) sum += array.bytes();
  return sum;
}

void SharedMemory::poison() {
  dynamic_.poison();
  for (SharedArray& array : static_) array.poison();
}

bool SharedMemory::intact() const {
  return dynamic_.intact() &&
         std::all_of(static_.begin(), static_.end(), [](const SharedArray& a) { return a.intact(); });
}

}  // namespace cuda_emulation
