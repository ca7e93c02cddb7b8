/*
 * The inner loops for AVX2, FMA and F16C. Compiled alone with those flags: nothing here may run before the backend's
 * probe has found them.
 */
#include "lanes_avx2.h"
/* The lanes come first: the others are written in their terms. */
#include "rows.h"

#include "attend.h"
#include "isa.h"
#include "peak.h"
#include "tile.h"

const struct isa isa_avx2 = ISA_TABLE("avx2");
