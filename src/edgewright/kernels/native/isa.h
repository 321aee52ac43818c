/* Levels of instruction sets, lowest first. x86: scalar, AVX2, AVX-512; aarch64: scalar, NEON, dotprod, i8mm. */
#ifndef EDGEWRIGHT_ISA_H
#define EDGEWRIGHT_ISA_H

#if defined(_WIN32)
#define EWK_EXPORT __declspec(dllexport)
#else
#define EWK_EXPORT __attribute__((visibility("default")))
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define EWK_X86 1
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define EWK_ARM 1
#endif

enum { EWK_SCALAR = 0, EWK_AVX2 = 1, EWK_AVX512 = 2, EWK_NEON = 1, EWK_DOTPROD = 2, EWK_I8MM = 3 };

#endif
