/*
 * The methods of the Agent Client Protocol. Each is a chain of requests to the daemon: a step says what was asked and
 * how it goes on with the reply, so that nothing waits, and a prompt can be cancelled while another session is loaded.
 */
#include "acp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "term.h"

/* ---- steps ---- */

void acp_step_free(struct acp_step *p)
{
	if (!p)
		return;
	free(p->name);
	free(p->cwd);
	free(p->source);
	free(p);
}

void acp_step_starve(struct bridge *b, struct acp_step *p)
{
	if (p->call)
		rpc_error(&b->rpc, p->call, RPC_FIRST + SINK_ENOMEM, "enomem", "There is not enough memory.");
	acp_step_free(p);
}

void acp_step_refuse(struct bridge *b, struct acp_step *p, const struct sink_reply *r)
{
	const char *text;
	int code = sink_reply_error(r, &text);

	if (p->call)
		bridge_refuse(b, p->call, code, text);
	acp_step_free(p);
}

struct acp_step *acp_step_new(struct bridge *b, struct rpc_call *call, const char *name, const char *cwd)
{
	struct acp_step *p = calloc(1, sizeof(*p));

	if (p) {
		p->call = call;
		p->name = strdup(name);
		p->cwd = strdup(cwd);
	}
	if (p && p->name && p->cwd)
		return p;
	acp_step_free(p);
	if (call)
		rpc_error(&b->rpc, call, RPC_FIRST + SINK_ENOMEM, "enomem", "There is not enough memory.");
	return NULL;
}

bool acp_step_begin(struct bridge *b, struct acp_step *p, const char *op, struct sink_args *a, acp_then *then)
{
	struct acp *acp = b->state;

	if (!a) {
		acp_step_starve(b, p);
		return false;
	}
	p->number = sink_begin(b->sink, op, a, -1);
	if (p->number < 0) {
		if (p->call)
			bridge_refuse(b, p->call, (int)p->number, sink_error_text(b->sink));
		acp_step_free(p);
		return false;
	}
	p->then = then;
	p->next = acp->steps;
	acp->steps = p;
	return true;
}

struct sink_args *acp_step_args(const struct acp_step *p)
{
	struct sink_args *a = sink_args_new();

	if (a)
		sink_args_str(a, "conversation", p->name);
	return a;
}

static void replied(struct bridge *b, struct sink_reply *r)
{
	struct acp *acp = b->state;
	struct acp_step **at = &acp->steps, *p;

	while (*at && (*at)->number != sink_reply_request(r))
		at = &(*at)->next;
	p = *at;
	if (p)
		*at = p->next;
	if (p && !p->call)
		acp_step_free(p);
	else if (p && !sink_reply_error(r, NULL))
		p->then(b, p, r);
	else if (p && p->otherwise)
		p->otherwise(b, p, r);
	else if (p)
		acp_step_refuse(b, p, r);
	sink_reply_free(r);
}

/* A request whose reply changes nothing. */
static void tell_daemon(struct bridge *b, const char *op, const char *name)
{
	struct sink_args *a = sink_args_new();

	if (!a)
		return;
	sink_args_str(a, "conversation", name);
	sink_begin(b->sink, op, a, -1);
}

/* ---- what params say ---- */

const char *acp_text(struct bridge *b, struct rpc_call *call, json_t *params, const char *key)
{
	json_t *v = json_object_get(params, key);
	const char *text = json_string_value(v);

	if (text && strlen(text) == json_string_length(v))
		return text;
	rpc_error(&b->rpc, call, RPC_PARAMS, "einval", "The field \"%s\" must be a string.", key);
	return NULL;
}

struct acp_session *acp_session_of(struct bridge *b, struct rpc_call *call, json_t *params)
{
	const char *id = acp_text(b, call, params, "sessionId");
	struct acp_session *s = id ? acp_session_find(b->state, id) : NULL;

	if (id && !s)
		rpc_error(&b->rpc, call, RPC_FIRST + SINK_ENOENT, "enoent",
			  "There is no session \"%.80s\" here: begin one by session/new, session/load or "
			  "session/resume.",
			  id);
	return s;
}

/* ---- the connection ---- */

static void initialize(struct bridge *b, struct rpc_call *call, json_t *params)
{
	const char *model = sink_str(sink_hello(b->sink), "model.name", NULL);
	json_t *able = json_pack("{s:b, s:{s:b, s:b, s:b}, s:{s:b, s:b}, s:{s:{}, s:{}, s:{}, s:{}, s:{}}}",
				 "loadSession", true, "promptCapabilities", "image", false, "audio", false,
				 "embeddedContext", true, "mcpCapabilities", "http", false, "sse", false,
				 "sessionCapabilities", "list", "resume", "fork", "close", "delete");

	(void)params; /* whatever version the client speaks, this one is what it gets */
	acp_result(b, call,
		   json_pack("{s:i, s:o, s:[], s:{s:s, s:s, s:s}}", "protocolVersion", 1, "agentCapabilities", able,
			     "authMethods", "agentInfo", "name", "sinkd", "title", model ? model : "sinkd", "version",
			     sink_version()));
}

static void authenticate(struct bridge *b, struct rpc_call *call, json_t *params)
{
	(void)params; /* who reaches the socket is who may */
	rpc_result(&b->rpc, call, "{}");
}

/* ---- the list ---- */

static json_t *list_entry(const struct acp *acp, const struct acp_step *p, const struct sink_reply *r, size_t i)
{
	const struct acp_session *s = acp->sessions;
	char at[64], when[40];
	const char *name;

	snprintf(at, sizeof(at), "conversations.%zu.used", i);
	acp_time(sink_float(r, at, 0), when, sizeof(when));
	snprintf(at, sizeof(at), "conversations.%zu.name", i);
	name = sink_str(r, at, NULL);
	while (s && name && strcmp(s->name, name) != 0)
		s = s->next;
	return json_pack("{s:s, s:s, s:s, s:s}", "sessionId", s ? s->id : name, "cwd", s ? s->cwd : p->cwd, "title",
			 name, "updatedAt", when);
}

static void listed(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	size_t count = sink_count(r, "conversations");
	json_t *all = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(all, list_entry(b->state, p, r, i));
	acp_result(b, p->call, json_pack("{s:o}", "sessions", all));
	acp_step_free(p);
}

/* A conversation belongs to no folder, so all of them are in each. */
static void session_list(struct bridge *b, struct rpc_call *call, json_t *params)
{
	const char *cwd = json_string_value(json_object_get(params, "cwd"));
	struct acp_step *p = acp_step_new(b, call, "", cwd ? cwd : "/");

	if (p)
		acp_step_begin(b, p, "list", sink_args_new(), listed);
}

/* ---- a prompt ---- */

static void add_fenced(struct buf *text, const char *what, json_t *content)
{
	buf_addf(text, "\n\n%s\n```\n", what ? what : "");
	buf_add(text, json_string_value(content), json_string_length(content));
	buf_adds(text, "\n```\n");
}

/* Adds one block of a prompt. NULL, or why it cannot be taken. */
static const char *add_block(struct buf *text, json_t *block)
{
	const char *type = json_string_value(json_object_get(block, "type"));
	const char *name = json_string_value(json_object_get(block, "name"));
	const char *uri = json_string_value(json_object_get(block, "uri"));
	json_t *words = json_object_get(block, "text"), *inner = json_object_get(block, "resource");

	if (!type)
		return "Each block of a prompt is an object with a type.";
	if (strcmp(type, "text") == 0 && json_is_string(words)) {
		buf_add(text, json_string_value(words), json_string_length(words));
	} else if (strcmp(type, "resource_link") == 0 && uri) {
		buf_addf(text, "[%s](%s)", name ? name : uri, uri);
	} else if (strcmp(type, "resource") == 0 && json_is_string(json_object_get(inner, "text"))) {
		add_fenced(text, json_string_value(json_object_get(inner, "uri")), json_object_get(inner, "text"));
	} else if (strcmp(type, "image") == 0 || strcmp(type, "audio") == 0) {
		return "The model reads text: images and sound are not taken.";
	} else {
		return "The model reads text: this block has none.";
	}
	return NULL;
}

static void said(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	acp_session_said(b, p->session, sink_int(r, "message", 0));
	acp_step_free(p);
}

static void not_said(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	acp_session_said(b, p->session, -1);
	acp_step_refuse(b, p, r);
}

/* Says it. An attachment that has ended by itself is made anew on this occasion. */
static void say(struct bridge *b, struct rpc_call *call, struct acp_session *s, const struct buf *text)
{
	struct acp_step *p = acp_step_new(b, call, s->name, s->cwd);
	struct sink_args *a;

	if (!p)
		return;
	a = acp_step_args(p);
	if (a) {
		sink_args_strn(a, "text", buf_text(text), text->size);
		sink_args_bool(a, "attach", true);
		sink_args_int(a, "credit", BRIDGE_CREDIT);
	}
	p->session = s;
	p->otherwise = not_said;
	s->said = -1;
	if (acp_step_begin(b, p, "say", a, said))
		s->prompt = call;
}

static void prompt(struct bridge *b, struct rpc_call *call, json_t *params)
{
	struct acp_session *s = acp_session_of(b, call, params);
	json_t *blocks = json_object_get(params, "prompt");
	const char *why = json_array_size(blocks) ? NULL : "The field \"prompt\" must be a list of blocks.";
	struct buf text = { 0 };

	if (!s)
		return;
	for (size_t i = 0; i < json_array_size(blocks) && !why; i++)
		why = add_block(&text, json_array_get(blocks, i));
	if (why)
		rpc_error(&b->rpc, call, RPC_PARAMS, "einval", "%s", why);
	else if (s->prompt || s->load)
		rpc_error(&b->rpc, call, RPC_FIRST + SINK_EBUSY, "ebusy", "The session is busy.");
	else
		say(b, call, s, &text);
	buf_release(&text);
}

/* ---- ends ---- */

static void cancel(struct bridge *b, struct rpc_call *call, json_t *params)
{
	struct acp_session *s = acp_session_of(b, call, params);

	if (!s)
		return;
	if (s->prompt)
		tell_daemon(b, "stop", s->name); /* the answer's end answers the prompt */
	rpc_result(&b->rpc, call, "{}");
}

static void session_close(struct bridge *b, struct rpc_call *call, json_t *params)
{
	struct acp_session *s = acp_session_of(b, call, params);

	if (!s)
		return;
	if (s->prompt)
		tell_daemon(b, "stop", s->name);
	sink_detach(b->sink, s->name);
	acp_session_forget(b, s);
	rpc_result(&b->rpc, call, "{}");
}

static void deleted(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	(void)r; /* its session ends with the event of the same name */
	rpc_result(&b->rpc, p->call, "{}");
	acp_step_free(p);
}

static void session_delete(struct bridge *b, struct rpc_call *call, json_t *params)
{
	const char *id = acp_text(b, call, params, "sessionId");
	struct acp_session *s = id ? acp_session_find(b->state, id) : NULL;
	struct acp_step *p = id ? acp_step_new(b, call, s ? s->name : id, "/") : NULL;

	if (p)
		acp_step_begin(b, p, "remove", acp_step_args(p), deleted);
}

/* ---- the table ---- */

static void called(struct bridge *b, struct rpc_call *call, const char *name, json_t *params)
{
	static const struct {
		const char *name;
		acp_method *run;
	} rows[] = {
		{ "initialize", initialize },	       { "authenticate", authenticate },
		{ "session/new", acp_open_new },       { "session/load", acp_open_load },
		{ "session/resume", acp_open_resume }, { "session/fork", acp_open_fork },
		{ "session/list", session_list },      { "session/prompt", prompt },
		{ "session/cancel", cancel },	       { "session/close", session_close },
		{ "session/delete", session_delete },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].name, name) == 0) {
			rows[i].run(b, call, params);
			return;
		}
	rpc_error(&b->rpc, call, RPC_METHOD, "eproto", "There is no method \"%.80s\".", name);
}

/* The protocol of the editors has no word for it: a prompt goes on when the daemon is back. */
static void changed(struct bridge *b, bool connected)
{
	(void)b;
	if (!connected)
		term_note("sink: the connection to the daemon was lost; waiting for it\n");
}

int acp_run(struct cli *c)
{
	static const struct bridge_kind kind = { called, replied, acp_session_event, changed };
	struct acp acp = { 0 };
	int code = bridge_run(c, &kind, &acp);

	acp_session_end(&acp);
	while (acp.steps) {
		struct acp_step *p = acp.steps;

		acp.steps = p->next;
		acp_step_free(p);
	}
	return code;
}
