// SPDX-License-Identifier: MIT
// One portable binary, the machine's vector units at run time: a function marked DTNN_CPU_CLONES is compiled for
// AVX-512, AVX2 and the baseline, and the loader picks. Not for templates: wrap one always-inline template per type.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define DTNN_CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DTNN_CPU_CLONES
#endif

#define DTNN_ALWAYS_INLINE inline __attribute__((always_inline))
