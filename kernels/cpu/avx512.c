/*
 * The inner loops for AVX-512 (F, BW, VL, DQ). Compiled alone with those flags, once without and once with VNNI, and in
 * the tests a third time over an emulation; nothing here may run before the backend's probe has found them.
 */
#include "lanes_avx512.h"
/* The lanes come first: the others are written in their terms. */
#include "rows.h"

#include "attend.h"
#include "isa.h"
#include "peak.h"
#include "tile.h"

#if defined(KERNELS_EMULATE_AVX512)
extern const struct isa KERNELS_EMULATE_AVX512;
const struct isa KERNELS_EMULATE_AVX512 = ISA_TABLE("avx512-emulated");
#elif defined(KERNELS_VNNI)
const struct isa isa_avx512_vnni = ISA_TABLE("avx512");
#else
const struct isa isa_avx512 = ISA_TABLE("avx512");
#endif
