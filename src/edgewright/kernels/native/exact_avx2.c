/* The preprocessing core once more, compiled for AVX2: compilers vectorize it, and its results are the same. */
#include "isa.h"

#if defined(EWK_X86)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#define ewp_place ewp_place_avx2
#define ewp_output_bytes ewp_output_bytes_avx2
#define ewp_new ewp_new_avx2
#define ewp_free ewp_free_avx2
#define ewp_run ewp_run_avx2
#include "edgewright_preprocess.c"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
