/* Qwen 2, which has biases of q, k and v; and Qwen 3, which has norms of each head of q and k instead. */
#include "arch.h"

const struct arch arch_qwen2 = {
	.name = "qwen2",
	.norm = INPUT_NORM,
	.activation = INPUT_GATE,
	.biases = BIAS_QKV,
};

const struct arch arch_qwen3 = {
	.name = "qwen3",
	.norm = INPUT_NORM,
	.activation = INPUT_GATE,
	.qk_norm = true,
};
