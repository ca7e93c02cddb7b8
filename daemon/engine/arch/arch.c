/* The table of model families. */
#include "arch.h"

#include <string.h>

static const struct arch *const families[] = {
	&arch_llama, &arch_qwen2,  &arch_qwen3, &arch_gptneox, &arch_falcon,
	&arch_mpt,   &arch_gemma3, &arch_phi3,	&arch_gpt_oss,
};

enum { FAMILIES = sizeof(families) / sizeof(families[0]) };

const struct arch *arch_find(struct gguf_str name, struct err *e)
{
	char known[120] = "";

	for (size_t i = 0; i < FAMILIES; i++) {
		if (strlen(families[i]->name) == name.len && memcmp(families[i]->name, name.at, name.len) == 0)
			return families[i];
		strncat(known, i ? ", " : "", sizeof(known) - strlen(known) - 1);
		strncat(known, families[i]->name, sizeof(known) - strlen(known) - 1);
	}
	err_set(e, SINK_EFORMAT, "The model's architecture \"%.*s\" is not supported (%s).",
		name.len < 64 ? (int)name.len : 64, name.at, known);
	return NULL;
}
