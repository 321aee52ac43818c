/* The preprocessing core and the kernels that use its plans, in one unit. */
#include "isa.h"
#define EWP_FUNCTION EWK_EXPORT
#include "edgewright_preprocess.c"
#include "fast.inc"

#if defined(EWK_X86)
int ewp_run_avx2(ewp_plan *plan, const ewp_frame *frame, void *output); /* of exact_avx2.c, for the same plans */
#endif

/* ewp_run in the best variant up to a level. */
EWK_EXPORT int ewk_exact_run(int isa, ewp_plan *plan, const ewp_frame *frame, void *output) {
#if defined(EWK_X86)
    if (isa >= EWK_AVX2) return ewp_run_avx2(plan, frame, output);
#endif
    (void)isa;
    return ewp_run(plan, frame, output);
}
