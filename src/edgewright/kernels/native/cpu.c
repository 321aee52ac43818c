/* The best level of this processor. Compilers' own functions are wrong in places (zig's always return 0). */
#include "isa.h"

#if defined(EWK_X86)
#include <cpuid.h>

static int saves_registers(unsigned bits) {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & bits) == bits;
}

EWK_EXPORT int ewk_best_level(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27) || !saves_registers(0x6)) return EWK_SCALAR;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 5)) return EWK_SCALAR;
    unsigned wanted = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* AVX-512 F, DQ, BW, VL */
    return (b & wanted) == wanted && saves_registers(0xe6) ? EWK_AVX512 : EWK_AVX2;
}
#elif defined(EWK_ARM) && defined(__linux__)
#include <sys/auxv.h>

EWK_EXPORT int ewk_best_level(void) {
    unsigned long first = getauxval(16), second = getauxval(26); /* AT_HWCAP, AT_HWCAP2 */
    if (!(first & 1ul << 20)) return EWK_NEON;                   /* asimddp */
    return second & 1ul << 13 ? EWK_I8MM : EWK_DOTPROD;          /* i8mm */
}
#elif defined(EWK_ARM)
EWK_EXPORT int ewk_best_level(void) { return EWK_DOTPROD; } /* every Apple processor with macOS */
#else
EWK_EXPORT int ewk_best_level(void) { return EWK_SCALAR; }
#endif
