/*
 * `sink --stdio`: the protocol as JSON-RPC. A method is a verb, params are its fields, the result is its `ok` map, an
 * event is a notification. Nothing is known here of single verbs, so that those of a newer daemon work too, but for
 * what belongs to a connection: hello and credit are the bridge's own.
 */
#include "bridge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* base64 to bytes, in place of the text. The number of bytes; -1 when it is none. */
static ssize_t decode(const char *text, size_t size, unsigned char *ret)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = 0;
	ssize_t done = 0;
	size_t i;

	while (size && text[size - 1] == '=')
		size--;
	for (i = 0; i < size; i++) {
		const char *at = text[i] ? strchr(digits, text[i]) : NULL;

		if (!at)
			return -1;
		bits = bits << 6 | (uint32_t)(at - digits);
		if (i % 4)
			ret[done++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
	}
	return size % 4 == 1 ? -1 : done;
}

/* Adds a field of bytes, which JSON has as base64. */
static bool add_bytes(struct sink_args *a, const char *key, json_t *v)
{
	size_t size = json_string_length(v);
	unsigned char *bytes = malloc(size + 1);
	ssize_t n = bytes && json_is_string(v) ? decode(json_string_value(v), size, bytes) : -1;

	if (n >= 0)
		sink_args_bin(a, key, bytes, (size_t)n);
	free(bytes);
	return n >= 0;
}

static bool add_value(struct sink_args *a, const char *key, json_t *v)
{
	char *text;
	bool added;

	if (json_is_string(v)) {
		sink_args_strn(a, key, json_string_value(v), json_string_length(v));
		return true;
	}
	text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	added = text && sink_args_json(a, key, text, strlen(text));
	free(text);
	return added;
}

/* The fields of a request. NULL: the call was answered with an error. */
static struct sink_args *fields(struct bridge *b, struct rpc_call *call, const char *op, json_t *params)
{
	bool attach = strcmp(op, "attach") == 0 || json_is_true(json_object_get(params, "attach"));
	struct sink_args *a = sink_args_new();
	const char *key;
	json_t *v;

	if (!a) {
		bridge_refuse(b, call, SINK_ENOMEM, "There is no memory for a request.");
		return NULL;
	}
	json_object_foreach(params, key, v)
	{
		bool bytes = strcmp(op, "bundle_write") == 0 && strcmp(key, "data") == 0;

		if (strcmp(key, "credit") == 0)
			continue; /* it is granted as the peer reads */
		if (strcmp(key, "op") == 0 || strcmp(key, "id") == 0) {
			rpc_error(&b->rpc, call, RPC_PARAMS, "einval", "The field \"%s\" is the bridge's own.", key);
			sink_args_free(a);
			return NULL;
		}
		if (bytes ? add_bytes(a, key, v) : add_value(a, key, v))
			continue;
		rpc_error(&b->rpc, call, RPC_PARAMS, "einval", "The field \"%.60s\" is of no use: %s", key,
			  bytes ? "it must be base64." : sink_error_text(NULL));
		sink_args_free(a);
		return NULL;
	}
	if (attach)
		sink_args_int(a, "credit", BRIDGE_CREDIT);
	return a;
}

/* The daemon's hello, and the bridge's version beside it. */
static void greet(struct bridge *b, struct rpc_call *call)
{
	char *hello = sink_json(sink_hello(b->sink));
	struct buf both = { 0 };

	buf_addf(&both, "{\"bridge\":\"%s\",%s", sink_version(), hello ? hello + 1 : "}");
	rpc_result(&b->rpc, call, buf_text(&both));
	buf_release(&both);
	free(hello);
}

static void called(struct bridge *b, struct rpc_call *call, const char *method, json_t *params)
{
	struct sink_args *a;

	if (strcmp(method, "hello") == 0) {
		greet(b, call);
	} else if (strcmp(method, "credit") == 0) {
		rpc_result(&b->rpc, call, "{}");
	} else {
		a = fields(b, call, method, params);
		if (a)
			bridge_begin(b, method, a, call);
	}
}

static void replied(struct bridge *b, struct sink_reply *r)
{
	struct rpc_call *call = rpc_find(&b->rpc, sink_reply_request(r));
	const char *text;
	int code = sink_reply_error(r, &text);
	char *json;

	if (call && code) {
		bridge_refuse(b, call, code, text);
	} else if (call) {
		json = sink_json(r);
		rpc_result(&b->rpc, call, json ? json : "null");
		free(json);
	}
	sink_reply_free(r);
}

static void happened(struct bridge *b, struct sink_reply *ev)
{
	char *json = sink_json(ev);

	if (json)
		rpc_notify(&b->rpc, "event", json);
	else
		b->rpc.out.failed = true;
	free(json);
	sink_reply_free(ev);
}

static void changed(struct bridge *b, bool connected)
{
	char params[100];

	snprintf(params, sizeof(params), "{\"state\":\"%s\",\"instance\":%lld}", connected ? "connected" : "lost",
		 (long long)b->instance);
	rpc_notify(&b->rpc, "connection", params);
}

int stdio_run(struct cli *c)
{
	static const struct bridge_kind kind = { called, replied, happened, changed };

	return bridge_run(c, &kind, NULL);
}
