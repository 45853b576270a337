/* Which instruction set to use. */
#include "kernels/isa.h"

#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static bool find_avx2(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d; /* clang's __builtin_cpu_supports has no name for f16c */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
#else
    return false;
#endif
}

/* The processor is asked once: in a virtual machine each cpuid is a trap of some 20 us.
 * Threads that ask at the same time find the same. */
bool cpu_has_avx2(void) {
    static _Atomic int known; /* 0: not asked yet */
    if (!known) known = find_avx2() ? 2 : 1;
    return known == 2;
}

static const Isa *find_isa(void) {
    const char *most = getenv("GRAPHRUN_ISA");
#if defined(__x86_64__)
    bool low = most && !strcmp(most, isa_portable.name);
    bool middle = most && !strcmp(most, isa_avx2.name);
    bool avx2 = cpu_has_avx2();
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                  __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512dq");
    if (avx512 && !low && !middle) return &isa_avx512;
    if (avx2 && !low) return &isa_avx2;
#else
    (void)most;
#endif
    return &isa_portable;
}

const Isa *isa(void) {
    static const Isa *_Atomic known;
    if (!known) known = find_isa();
    return known;
}
