/* The card's row of the list in kernels.c. */
#ifndef CUDA_BACKEND_H
#define CUDA_BACKEND_H

#include "kernels.h"

extern const struct backend backend_cuda;

/* How many cards there are; 0 with the reason when none can be used. */
int cuda_cards(struct err *e);
/* One line about a card, such as "NVIDIA H200, 139 GiB (138 GiB free), compute 9.0". */
void cuda_card_about(int card, char *ret, size_t size);

#endif
