/* The CPU's rows of the list in kernels.c. */
#ifndef CPU_BACKENDS_H
#define CPU_BACKENDS_H

#include "kernels.h"

extern const struct backend backend_ref, backend_scalar;
#ifdef __x86_64__
extern const struct backend backend_avx2, backend_avx512;
#ifdef KERNELS_AMX
extern const struct backend backend_amx;
#endif
#endif

#endif
