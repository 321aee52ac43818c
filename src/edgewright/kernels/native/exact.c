/* The preprocessing core, compiled for each instruction set. */
#include "isa.h"
#define EWP_FUNCTION EWK_EXPORT
#include "edgewright_preprocess.c"
#include "fast.inc"
