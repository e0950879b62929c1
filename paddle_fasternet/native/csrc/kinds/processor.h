// What the processor in front of us can do.
#pragma once

#if defined(__x86_64__)
#define FASTERNET_X86
#if __GNUC__ >= 11  // the first that knows AMX
#define FASTERNET_AMX
#endif
#endif

#if defined(FASTERNET_X86)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace fasternet {

#if defined(FASTERNET_X86)
inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
inline bool has_avx512() { return __builtin_cpu_supports("avx512f") && has_avx2(); }
#if defined(FASTERNET_AMX)
inline bool has_bf16() {
    return has_avx512() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16");
}
// The tiles' 8 KB of state must be asked for, once in a process.
inline bool has_amx() {
#if defined(__linux__)
    unsigned a, b, c, d;
    if (!has_bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
#else
    return false;
#endif
}
#endif
#endif
inline bool always() { return true; }

}  // namespace fasternet
