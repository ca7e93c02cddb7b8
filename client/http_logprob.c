/* From a `text` event to entries. Its tokens are found among the likeliest by their ids: there stand their bytes. */
#include "http_logprob.h"

#include <stdio.h>
#include <string.h>

/* A token, or all of an event's. */
struct entry {
	const char *text; /* UTF-8 */
	size_t len;
	const char *bytes;
	size_t size;
	double logprob;
	size_t at; /* whose list of the likeliest is the entry's */
};

enum { PATH = 64 };

static double logprob_at(const struct sink_reply *ev, size_t i)
{
	char path[PATH];

	snprintf(path, sizeof(path), "logprobs.%zu", i);
	return sink_float(ev, path, 0);
}

static size_t likeliest(const struct sink_reply *ev, size_t i)
{
	char path[PATH];

	snprintf(path, sizeof(path), "top_logprobs.%zu", i);
	return sink_count(ev, path);
}

/* The one at `k` of the likeliest for token `i`. */
static struct entry likely(const struct sink_reply *ev, size_t i, size_t k)
{
	struct entry e = { .at = i };
	char path[PATH];

	snprintf(path, sizeof(path), "top_logprobs.%zu.%zu.text", i, k);
	e.text = sink_str(ev, path, &e.len);
	snprintf(path, sizeof(path), "top_logprobs.%zu.%zu.bytes", i, k);
	e.bytes = sink_bin(ev, path, &e.size);
	snprintf(path, sizeof(path), "top_logprobs.%zu.%zu.logprob", i, k);
	e.logprob = sink_float(ev, path, 0);
	if (!e.text) {
		e.text = "";
		e.len = 0;
	}
	if (!e.bytes) {
		e.bytes = e.text;
		e.size = e.len;
	}
	return e;
}

/* Finds token `i` of the event. */
static bool find(const struct sink_reply *ev, size_t i, struct entry *ret)
{
	const size_t count = likeliest(ev, i);
	char path[PATH];
	int64_t id;

	snprintf(path, sizeof(path), "ids.%zu", i);
	id = sink_int(ev, path, -1);
	for (size_t k = 0; k < count; k++) {
		snprintf(path, sizeof(path), "top_logprobs.%zu.%zu.id", i, k);
		if (sink_int(ev, path, -2) != id)
			continue;
		*ret = likely(ev, i, k);
		return true;
	}
	return false;
}

static struct entry whole(const struct sink_reply *ev)
{
	const size_t count = sink_count(ev, "logprobs");
	struct entry e = { 0 };

	e.text = sink_str(ev, "text", &e.len);
	if (!e.text)
		e.text = "";
	e.bytes = e.text;
	e.size = e.len;
	for (size_t i = 0; i < count; i++)
		e.logprob += logprob_at(ev, i);
	return e;
}

/* Whether the bytes of the tokens are those of the text; they are not where a stop string has cut it. */
static bool is_told_apart(const struct sink_reply *ev, const struct entry *all)
{
	const size_t count = sink_count(ev, "ids");
	size_t size = 0;
	struct entry e;

	if (count < 2)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (!find(ev, i, &e) || e.size > all->size - size || memcmp(e.bytes, all->bytes + size, e.size) != 0)
			return false;
		size += e.size;
	}
	return size == all->size;
}

/* Calls `add` for each entry of the event. */
static void walk(const struct sink_reply *ev, void (*add)(void *to, const struct sink_reply *ev, const struct entry *e),
		 void *to)
{
	struct entry e = whole(ev);
	size_t count = is_told_apart(ev, &e) ? sink_count(ev, "ids") : 0;

	if (!count)
		add(to, ev, &e);
	for (size_t i = 0; i < count && find(ev, i, &e); i++)
		add(to, ev, &e);
}

/* ---- chats ---- */

struct chat {
	json_t *content;
	size_t top;
};

static json_t *object_of(const struct entry *e)
{
	json_t *bytes = json_array();

	for (size_t i = 0; i < e->size; i++)
		json_array_append_new(bytes, json_integer((unsigned char)e->bytes[i]));
	return json_pack("{s:s%, s:f, s:o}", "token", e->text, e->len, "logprob", e->logprob, "bytes", bytes);
}

static void add_to_chat(void *to, const struct sink_reply *ev, const struct entry *e)
{
	const struct chat *c = to;
	const size_t count = likeliest(ev, e->at);
	json_t *o = object_of(e), *top = json_array();

	for (size_t k = 0; k < c->top && k < count; k++) {
		const struct entry one = likely(ev, e->at, k);

		json_array_append_new(top, object_of(&one));
	}
	json_object_set_new(o, "top_logprobs", top);
	json_array_append_new(c->content, o);
}

void http_logprob_chat(json_t *content, const struct sink_reply *ev, size_t top)
{
	struct chat c = { content, top };

	walk(ev, add_to_chat, &c);
}

/* ---- completions ---- */

struct completion {
	json_t *logprobs;
	size_t top, *offset;
};

json_t *http_logprob_new(void)
{
	return json_pack("{s:[], s:[], s:[], s:[]}", "tokens", "token_logprobs", "top_logprobs", "text_offset");
}

static size_t characters(const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += (text[i] & 0xc0) != 0x80;
	return n;
}

/* As the API has it, the chosen token is among the others, also where it is one more than was asked for. */
static void add_to_completion(void *to, const struct sink_reply *ev, const struct entry *e)
{
	struct completion *c = to;
	const size_t count = c->top ? likeliest(ev, e->at) : 0;
	json_t *top = json_object();

	json_array_append_new(json_object_get(c->logprobs, "tokens"), json_stringn(e->text, e->len));
	json_array_append_new(json_object_get(c->logprobs, "token_logprobs"), json_real(e->logprob));
	json_array_append_new(json_object_get(c->logprobs, "text_offset"), json_integer((json_int_t)*c->offset));
	for (size_t k = 0; k < count; k++) {
		const struct entry one = likely(ev, e->at, k);

		if (!json_object_get(top, one.text)) /* of two that look alike the likelier one */
			json_object_set_new(top, one.text, json_real(one.logprob));
	}
	if (c->top)
		json_array_append(json_object_get(c->logprobs, "top_logprobs"), top);
	json_decref(top);
	*c->offset += characters(e->bytes, e->size);
}

void http_logprob_completion(json_t *logprobs, const struct sink_reply *ev, size_t top, size_t *offset)
{
	struct completion c = { logprobs, top, offset };

	walk(ev, add_to_completion, &c);
}
