/* /v1/conversations: what the daemon has, by its names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_api.h"
#include "http_daemon.h"
#include "http_plan.h"

/* A request that waits for one reply. */
struct talk {
	struct http *http;
	struct http_request *request;
};

static void drop(void *owner)
{
	struct talk *t = owner;

	http_ask_forget(t->http, t);
	free(t);
}

static void ask(struct http_request *q, const char *op, struct sink_args *a,
		void (*done)(void *owner, const struct sink_reply *r, int code, const char *text))
{
	struct talk *t = calloc(1, sizeof(*t));

	if (!t) {
		sink_args_free(a);
		http_request_answer(q, 500, NULL);
		return;
	}
	t->http = q->http;
	t->request = q;
	q->owner = t;
	q->gone = drop;
	http_ask(q->http, op, a, done, t);
}

/* What was asked, when it was refused: answered, and over. */
static bool refused(struct talk *t, int code, const char *text)
{
	struct http_error e;

	if (!code)
		return false;
	http_error_sink(&e, code, text);
	http_request_fail(t->request, &e);
	drop(t);
	return true;
}

static void answer(struct talk *t, json_t *body)
{
	http_request_answer(t->request, 200, body);
	drop(t);
}

static json_t *conversation_at(const struct sink_reply *r, const char *path)
{
	char at[64];
	const char *name, *state;
	int64_t created, messages, tokens;

	snprintf(at, sizeof(at), "%s.name", path);
	name = sink_str(r, at, NULL);
	snprintf(at, sizeof(at), "%s.state", path);
	state = sink_str(r, at, NULL);
	snprintf(at, sizeof(at), "%s.created", path);
	created = (int64_t)sink_float(r, at, 0);
	snprintf(at, sizeof(at), "%s.messages", path);
	messages = sink_int(r, at, 0);
	snprintf(at, sizeof(at), "%s.tokens", path);
	tokens = sink_int(r, at, 0);
	return json_pack("{s:s?, s:s, s:I, s:{}, s:s?, s:I, s:I}", "id", name, "object", "conversation", "created_at",
			 (json_int_t)created, "metadata", "state", state, "messages", (json_int_t)messages, "tokens",
			 (json_int_t)tokens);
}

static void shown(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct talk *t = owner;

	if (!refused(t, code, text))
		answer(t, conversation_at(r, "conversation"));
}

/* Those of the gateway's own are nobody's. */
static void listed(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct talk *t = owner;
	json_t *data;
	char path[48];

	if (refused(t, code, text))
		return;
	data = json_array();
	for (size_t i = 0; i < sink_count(r, "conversations"); i++) {
		const char *name;

		snprintf(path, sizeof(path), "conversations.%zu.name", i);
		name = sink_str(r, path, NULL);
		snprintf(path, sizeof(path), "conversations.%zu", i);
		if (name && !http_id_is_hidden(name))
			json_array_append_new(data, conversation_at(r, path));
	}
	answer(t, json_pack("{s:s, s:o, s:b}", "object", "list", "data", data, "has_more", 0));
}

static json_t *item_at(const struct sink_reply *r, size_t i, const char *role)
{
	const bool assistant = strcmp(role, "assistant") == 0;
	char path[48], id[32];
	const char *text;
	size_t len = 0;
	json_t *part;

	snprintf(path, sizeof(path), "messages.%zu.message", i);
	snprintf(id, sizeof(id), "msg_%lld", (long long)sink_int(r, path, 0));
	snprintf(path, sizeof(path), "messages.%zu.text", i);
	text = sink_str(r, path, &len);
	part = json_pack("{s:s, s:s%}", "type", assistant ? "output_text" : "input_text", "text", text ? text : "",
			 len);
	if (assistant)
		json_object_set_new(part, "annotations", json_array());
	return json_pack("{s:s, s:s, s:s, s:s, s:[o]}", "type", "message", "id", id, "status", "completed", "role",
			 role, "content", part);
}

static void logged(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct talk *t = owner;
	const char *first = NULL, *last = NULL;
	json_t *data, *o;
	char path[48];

	if (refused(t, code, text))
		return;
	data = json_array();
	for (size_t i = 0; i < sink_count(r, "messages"); i++) {
		const char *role;

		snprintf(path, sizeof(path), "messages.%zu.role", i);
		role = sink_str(r, path, NULL);
		if (role)
			json_array_append_new(data, item_at(r, i, role));
	}
	if (json_array_size(data)) {
		first = json_string_value(json_object_get(json_array_get(data, 0), "id"));
		last = json_string_value(json_object_get(json_array_get(data, json_array_size(data) - 1), "id"));
	}
	o = json_pack("{s:s, s:O, s:s?, s:s?, s:b}", "object", "list", "data", data, "first_id", first, "last_id", last,
		      "has_more", 0);
	json_decref(data);
	answer(t, o);
}

static void removed(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct talk *t = owner;

	(void)r;
	if (!refused(t, code, text))
		answer(t, json_pack("{s:s, s:s, s:b}", "id", t->request->id, "object", "conversation.deleted",
				    "deleted", 1));
}

void http_talk_get(struct http_request *q)
{
	struct sink_args *a = *q->id ? http_ask_args("conversation", q->id) : NULL;
	const char *after = http_request_query(q, "after");

	if (q->path == HTTP_CONVERSATIONS) {
		ask(q, "list", NULL, listed);
		return;
	}
	if (q->path == HTTP_ITEMS && after && strncmp(after, "msg_", 4) == 0)
		sink_args_int(a, "from", strtoll(after + 4, NULL, 10) + 1);
	ask(q, q->path == HTTP_ITEMS ? "log" : "show", a, q->path == HTTP_ITEMS ? logged : shown);
}

void http_talk_delete(struct http_request *q)
{
	ask(q, "remove", http_ask_args("conversation", q->id), removed);
}

/* A conversation is made by its name, or gets one; items are what begins it. */
void http_talk_post(struct http_request *q)
{
	struct http_plan p;
	struct http_error e;
	const char *name = NULL, *system = NULL;
	struct sink_args *a;

	if (http_plan_open(q->body.size ? buf_text(&q->body) : "{}", q->body.size ? q->body.size : 2, &p, &e) ||
	    http_plan_string(p.root, "name", &name, &e) || http_plan_string(p.root, "id", &name, &e) ||
	    http_plan_string(p.root, "system", &system, &e))
		goto fail;
	if (json_array_size(json_object_get(p.root, "items"))) {
		http_error_set(&e, 400, "unsupported_value", "items",
			       "A conversation begins empty: say its first items by a response.");
		goto fail;
	}
	a = sink_args_new();
	if (a && name)
		sink_args_str(a, "name", name);
	if (a && system)
		sink_args_str(a, "system", system);
	ask(q, "new", a, shown);
	http_plan_release(&p);
	return;
fail:
	http_request_fail(q, &e);
	http_plan_release(&p);
}
