/*
 * Fuzz target: a chat template, run over a conversation as turns are, with limits that keep a case short. What it
 * writes is looked through, so that a byte without an origin would be seen.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct jinja_message messages[] = {
		{ "system", "Be \"brief\".\n", 12, 1 },
		{ "user", " \xc3\xa9t\xc3\xa9 {{ x }} <|im_end|>\xff", 25, 2 },
		{ "assistant", "<think>a</think>\n\nb", 19, 3 },
		{ "user", "", 0, 4 },
	};
	static const char json[] =
		"{\"tools\": [{\"function\": {\"name\": \"f\", \"parameters\": {\"a\": [1, -2.5e3, null]}}}]}";
	static const struct jinja_limits limits = { .steps = 30000, .bytes = 1 << 20, .output = 1 << 16 };
	static const struct tm now = { .tm_year = 126, .tm_mday = 2 };
	struct jinja_call c = { .message = messages, .messages = 4, .bos = "<s>", .eos = "</s>", .now = &now };
	struct jinja_output o;
	struct jinja *j = NULL;
	struct err e;

	c.limits = &limits;
	if (jinja_new((const char *)data, size, &j, &e))
		return 0;
	for (int tools = 0; tools < 2; tools++) {
		c.open_answer = tools;
		c.json = tools ? json : NULL;
		c.json_len = tools ? strlen(json) : 0;
		if (jinja_render(j, &c, &o, &e))
			continue;
		for (size_t i = 0; i < o.len; i++)
			if (o.origin[i] > 4)
				abort();
		jinja_output_release(&o);
	}
	jinja_free(j);
	return 0;
}
