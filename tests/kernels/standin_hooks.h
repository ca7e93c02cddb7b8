/* What tests tell the stand-in, which is C for them: faults, and a card of another kind. Part of standin.h. */
#ifndef TESTS_KERNELS_STANDIN_HOOKS_H
#define TESTS_KERNELS_STANDIN_HOOKS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The n-th call of the runtime from now on (1: the next) fails with cudaErrorIllegalAddress, and so do all after it, as
 * when a kernel went astray; 0: none fails (any more). */
void standin_fail_after(int n);
/* Calls of the runtime so far. */
unsigned long standin_calls(void);
/* Bytes that the card has; what is taken already stays. 0: as at first. */
void standin_memory(size_t bytes);
/* Bytes taken by cudaMalloc(), by cudaMallocHost(), and objects (streams, events, graphs) that are not destroyed. */
size_t standin_taken(void);
size_t standin_taken_host(void);
size_t standin_objects(void);
/* How many cards there are, the version of their driver (13000: CUDA 13.0; 0: there is none), and whether the program
 * has code for them. At first 1, 13000 and yes. */
void standin_cards(int count, int driver, int has_code);

#ifdef __cplusplus
}
#endif

#endif
