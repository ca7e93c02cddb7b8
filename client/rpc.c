/*
 * Lines are cut before they are read, and a line is counted before it is parsed: a megabyte of commas would become a
 * hundred of memory. What the peer gets is written as text, since what is passed on is JSON already.
 */
#include "rpc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT_ROOM = 1 << 16 }; /* a line's memory beyond this is given back */

/* The answers to a batch, which go out together once the last is there. */
struct rpc_batch {
	struct buf out;
	size_t waiting; /* calls that are not answered yet, and one more while the batch is read */
};

void rpc_init(struct rpc *r, rpc_called *called, void *context)
{
	*r = (struct rpc){ .called = called, .context = context };
}

/* ---- answers ---- */

/* One call less in the batch. The last one sends the answers, where there are any. */
static void leave_batch(struct rpc *r, struct rpc_batch *b)
{
	if (--b->waiting)
		return;
	if (b->out.size) {
		buf_adds(&r->out, "[");
		buf_add(&r->out, b->out.data, b->out.size);
		buf_adds(&r->out, "]\n");
	}
	r->out.failed |= b->out.failed;
	buf_release(&b->out);
	free(b);
}

/* Where the answer to a call is written, its head already there. NULL: it is a notification. */
static struct buf *begin_answer(struct rpc *r, struct rpc_batch *batch, const char *id)
{
	struct buf *to = batch ? &batch->out : &r->out;

	if (!id)
		return NULL;
	if (batch && to->size)
		buf_adds(to, ",");
	buf_adds(to, "{\"jsonrpc\":\"2.0\",\"id\":");
	buf_adds(to, id);
	return to;
}

static void end_answer(const struct rpc_batch *batch, struct buf *to)
{
	buf_adds(to, batch ? "}" : "}\n");
}

static void forget(struct rpc *r, struct rpc_call *call)
{
	struct rpc_call **at = &r->calls;

	while (*at != call)
		at = &(*at)->next;
	*at = call->next;
	r->count--;
	r->bytes -= call->cost;
	if (call->batch)
		leave_batch(r, call->batch);
	free(call->id);
	free(call);
}

void rpc_release(struct rpc *r)
{
	while (r->calls)
		forget(r, r->calls);
	buf_release(&r->line);
	buf_release(&r->out);
}

void rpc_result(struct rpc *r, struct rpc_call *call, const char *json)
{
	struct buf *to = begin_answer(r, call->batch, call->id);

	if (to) {
		buf_adds(to, ",\"result\":");
		buf_adds(to, json);
		end_answer(call->batch, to);
	}
	forget(r, call);
}

static void write_error(struct rpc *r, struct rpc_batch *batch, const char *id, int code, const char *name,
			const char *text)
{
	struct buf *to = begin_answer(r, batch, id);
	json_t *error;
	char *dump;

	if (!to)
		return;
	error = json_pack("{s:i, s:s}", "code", code, "message", text);
	if (error && name)
		json_object_set_new(error, "data", json_pack("{s:s}", "code", name));
	dump = json_dumps(error, JSON_COMPACT);
	to->failed |= !dump;
	buf_adds(to, ",\"error\":");
	buf_adds(to, dump ? dump : "null");
	end_answer(batch, to);
	free(dump);
	json_decref(error);
}

void rpc_error(struct rpc *r, struct rpc_call *call, int code, const char *name, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	text[buf_utf8(text, strlen(text))] = '\0'; /* where the end was cut off */
	write_error(r, call->batch, call->id, code, name, text);
	forget(r, call);
}

void rpc_notify(struct rpc *r, const char *method, const char *params)
{
	buf_adds(&r->out, "{\"jsonrpc\":\"2.0\",\"method\":\"");
	buf_adds(&r->out, method);
	buf_adds(&r->out, "\",\"params\":");
	buf_adds(&r->out, params);
	buf_adds(&r->out, "}\n");
}

struct rpc_call *rpc_find(const struct rpc *r, int64_t number)
{
	struct rpc_call *call = r->calls;

	while (call && call->number != number)
		call = call->next;
	return call;
}

/* ---- messages ---- */

/* The id as it goes back; NULL when it can be none. */
static char *id_text(json_t *id)
{
	char *text;

	if (!json_is_string(id) && !json_is_number(id) && !json_is_null(id))
		return NULL;
	text = json_dumps(id, JSON_COMPACT | JSON_ENCODE_ANY);
	if (text && strlen(text) > RPC_ID_MOST) {
		free(text);
		return NULL;
	}
	return text;
}

static struct rpc_call *new_call(struct rpc *r, struct rpc_batch *batch, char *id, size_t cost)
{
	struct rpc_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->id = id;
	call->batch = batch;
	call->cost = cost;
	call->next = r->calls;
	r->calls = call;
	r->count++;
	r->bytes += cost;
	if (batch)
		batch->waiting++;
	return call;
}

/* Hands a well-formed call to the user; `id` is taken. */
static void call_user(struct rpc *r, struct rpc_batch *batch, char *id, const char *method, json_t *params, size_t cost)
{
	struct rpc_call *call = new_call(r, batch, id, cost);
	json_t *none = NULL;

	if (!call) {
		free(id);
		r->out.failed = true;
		return;
	}
	if (r->count > RPC_CALLS_MOST || r->bytes > RPC_BYTES_MOST) {
		rpc_error(r, call, RPC_FIRST - 4, "ebusy", "Too many requests wait for their answers.");
		return;
	}
	if (params && !json_is_object(params)) {
		rpc_error(r, call, RPC_PARAMS, "einval", "params must be an object: fields go by name.");
		return;
	}
	if (!params)
		params = none = json_object();
	r->called(r->context, call, method, params);
	json_decref(none);
}

/* One message. */
static void take_message(struct rpc *r, struct rpc_batch *batch, json_t *m, size_t cost)
{
	const char *version = json_string_value(json_object_get(m, "jsonrpc"));
	json_t *id = json_object_get(m, "id"), *method = json_object_get(m, "method");
	bool answer = json_object_get(m, "result") || json_object_get(m, "error");
	char *text = id ? id_text(id) : NULL;

	if (json_is_object(m) && !method && answer && version) /* we ask nothing, so it answers nothing */
		free(text);
	else if (!json_is_object(m) || !version || strcmp(version, "2.0") != 0 || (id && !text)) {
		write_error(r, batch, text ? text : "null", RPC_REQUEST, NULL,
			    "A request is an object with \"jsonrpc\": \"2.0\", a method, and an id that is a string or "
			    "a number.");
		free(text);
	} else if (!json_is_string(method) || strlen(json_string_value(method)) != json_string_length(method)) {
		write_error(r, batch, text ? text : "null", RPC_REQUEST, NULL, "The method must be a string.");
		free(text);
	} else {
		call_user(r, batch, text, json_string_value(method), json_object_get(m, "params"), cost);
	}
}

static void take_batch(struct rpc *r, json_t *all, size_t size)
{
	struct rpc_batch *batch = calloc(1, sizeof(*batch));
	size_t count = json_array_size(all);

	if (!batch) {
		r->out.failed = true;
		return;
	}
	batch->waiting = 1;
	for (size_t i = 0; i < count; i++)
		take_message(r, batch, json_array_get(all, i), size / count);
	leave_batch(r, batch);
}

/* How many values the text may hold: commas and brackets that stand in no string, and one. */
static size_t count_values(const char *text, size_t size)
{
	bool inside = false;
	size_t count = 1;

	for (size_t i = 0; i < size; i++) {
		char c = text[i];

		if (inside && c == '\\')
			i++;
		else if (c == '"')
			inside = !inside;
		else if (!inside && (c == ',' || c == '[' || c == '{'))
			count++;
	}
	return count;
}

static void take_line(struct rpc *r, const char *line, size_t size)
{
	json_error_t why = { .text = "a NUL byte" };
	json_t *m = NULL;
	char text[256];

	while (size && strchr(" \t\r", line[size - 1]) && line[size - 1])
		size--;
	if (!size)
		return;
	if (count_values(line, size) > RPC_VALUES_MOST) {
		write_error(r, NULL, "null", RPC_REQUEST, NULL, "The line has too many values.");
		return;
	}
	if (!memchr(line, '\0', size)) /* the parser passes over it */
		m = json_loadb(line, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
	if (!m) {
		snprintf(text, sizeof(text), "This is no JSON: %s.", why.text);
		text[buf_utf8(text, strlen(text))] = '\0';
		write_error(r, NULL, "null", RPC_PARSE, NULL, text);
	} else if (json_is_array(m) && json_array_size(m)) {
		take_batch(r, m, size);
	} else {
		take_message(r, NULL, m, size);
	}
	json_decref(m);
}

/* ---- lines ---- */

/* Ends the line that was gathered. */
static void end_line(struct rpc *r)
{
	if (r->passing)
		r->passing = false;
	else if (r->line.size)
		take_line(r, r->line.data, r->line.size);
	if (r->line.room > KEPT_ROOM)
		buf_release(&r->line);
	buf_clear(&r->line);
}

static void gather(struct rpc *r, const char *data, size_t size)
{
	if (r->passing)
		return;
	if (r->line.size + size <= RPC_LINE_MOST) {
		buf_add(&r->line, data, size);
		r->out.failed |= r->line.failed;
		return;
	}
	r->passing = true;
	buf_clear(&r->line);
	write_error(r, NULL, "null", RPC_REQUEST, NULL, "The line is longer than 16 MiB, and is passed over.");
}

void rpc_take(struct rpc *r, const char *data, size_t size)
{
	while (size) {
		const char *newline = memchr(data, '\n', size);
		size_t part = newline ? (size_t)(newline - data) : size;

		if (newline && !r->line.size && !r->passing && part <= RPC_LINE_MOST)
			take_line(r, data, part); /* it is whole already */
		else
			gather(r, data, part);
		if (!newline)
			return;
		end_line(r);
		data = newline + 1;
		size -= part + 1;
	}
}

void rpc_end(struct rpc *r)
{
	end_line(r);
}
