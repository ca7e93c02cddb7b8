/*
 * The inner loops in plain C: what avx2.c and avx512.c compute, to the bit, on any machine. It is written to be clear
 * and exact; where it runs a model (no vector instructions known to us) it is slow.
 */
#include "lanes_scalar.h"
/* The lanes come first: the others are written in their terms. */
#include "rows.h"

#include "attend.h"
#include "isa.h"
#include "peak.h"
#include "tile.h"

const struct isa isa_scalar = ISA_TABLE("scalar");
