/*
 * Fuzz target: what a peer writes to a bridge, in pieces of any size, answered at once, later, or with an error. What
 * the bridge writes must be lines of JSON, and each request must have exactly one answer.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct peer {
	struct rpc rpc;
	struct rpc_call *later[64];
	size_t count;
	size_t asked; /* calls that want an answer */
};

static void answer(struct peer *p, struct rpc_call *call, const char *method)
{
	if (method[0] == 'e')
		rpc_error(&p->rpc, call, RPC_METHOD, "eproto", "There is no \"%s\".", method);
	else
		rpc_result(&p->rpc, call, "{\"a\":1}");
}

/* The first letter of the method says what becomes of the call. */
static void called(void *context, struct rpc_call *call, const char *method, json_t *params)
{
	struct peer *p = context;

	if (!json_is_object(params))
		abort();
	p->asked += call->id != NULL;
	call->number = (int64_t)p->asked;
	if (rpc_find(&p->rpc, call->number) == NULL)
		abort();
	if (method[0] == 'l' && p->count < sizeof(p->later) / sizeof(p->later[0])) {
		p->later[p->count++] = call;
		return;
	}
	answer(p, call, method);
}

/* Counts the answers that bear `result`, or an error of ours, in one message or a batch of them. */
static size_t count_answers(json_t *m)
{
	const char *method = json_string_value(json_object_get(m, "method"));
	json_t *code = json_object_get(json_object_get(m, "error"), "code");
	size_t count = 0, i;
	json_t *one;

	if (json_is_array(m)) {
		if (json_array_size(m) == 0)
			abort();
		json_array_foreach(m, i, one) count += count_answers(one);
		return count;
	}
	if (!json_is_object(m) || method || strcmp(json_string_value(json_object_get(m, "jsonrpc")), "2.0") != 0)
		abort();
	if (!json_object_get(m, "id") || !json_object_get(m, "result") == !json_object_get(m, "error"))
		abort();
	return json_object_get(m, "result") || json_integer_value(code) == RPC_METHOD;
}

static size_t read_lines(const struct buf *out)
{
	const char *at = buf_text(out), *end;
	size_t count = 0;

	for (; (end = strchr(at, '\n')); at = end + 1) {
		json_t *m = json_loadb(at, (size_t)(end - at), JSON_ALLOW_NUL, NULL);

		if (!m)
			abort();
		count += count_answers(m);
		json_decref(m);
	}
	if (*at)
		abort(); /* half a line */
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct peer p = { 0 };
	size_t step = size ? 1 + data[0] % 97 : 1;

	rpc_init(&p.rpc, called, &p);
	for (size_t at = 0; at < size; at += step) {
		size_t left = size - at;

		rpc_take(&p.rpc, (const char *)data + at, left < step ? left : step);
		if (p.count && at % 3 == 0) /* the latest first */
			answer(&p, p.later[--p.count], "l");
	}
	rpc_end(&p.rpc);
	while (p.count)
		answer(&p, p.later[--p.count], "e");
	if (p.rpc.calls || p.rpc.count || p.rpc.bytes || p.rpc.out.failed || read_lines(&p.rpc.out) != p.asked)
		abort();
	rpc_release(&p.rpc);
	return 0;
}
