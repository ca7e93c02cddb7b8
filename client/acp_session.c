/*
 * Sessions and what happens in them. All that a client is shown comes from the event log, also what others say and what
 * is answered to them; only its own prompt is not shown to it twice. For that the prompt's number must be known, and
 * since an event may come ahead of the reply that tells it, events are kept aside until then.
 */
#include "acp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the list ---- */

struct acp_session *acp_session_find(const struct acp *a, const char *id)
{
	struct acp_session *s = a->sessions;

	while (s && strcmp(s->id, id) != 0)
		s = s->next;
	return s;
}

static struct acp_session *named(const struct acp *a, const char *name)
{
	struct acp_session *s = a->sessions;

	while (s && strcmp(s->name, name) != 0)
		s = s->next;
	return s;
}

static void session_free(struct acp_session *s)
{
	if (!s)
		return;
	free(s->id);
	free(s->name);
	free(s->cwd);
	free(s);
}

struct acp_session *acp_session_meet(struct acp *a, const char *name, const char *cwd)
{
	struct acp_session *s = named(a, name);

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (s) {
		s->id = strdup(name);
		s->name = strdup(name);
		s->cwd = strdup(cwd);
		s->held_end = &s->held;
		s->said = -1;
	}
	if (!s || !s->id || !s->name || !s->cwd) {
		session_free(s);
		return NULL;
	}
	s->next = a->sessions;
	a->sessions = s;
	return s;
}

static void drop_held(struct acp_session *s)
{
	while (s->held) {
		struct acp_held *h = s->held;

		s->held = h->next;
		sink_reply_free(h->ev);
		free(h);
	}
	s->held_end = &s->held;
}

void acp_session_forget(struct bridge *b, struct acp_session *s)
{
	struct acp *a = b->state;
	struct acp_session **at = &a->sessions;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	for (struct acp_step *p = a->steps; p; p = p->next) {
		if (p->session != s)
			continue;
		if (p->call && p->call != s->prompt)
			rpc_error(&b->rpc, p->call, RPC_FIRST + SINK_ENOENT, "enoent", "The session was closed.");
		p->session = NULL;
		p->call = NULL;
	}
	if (s->prompt)
		acp_result(b, s->prompt, json_pack("{s:s}", "stopReason", "cancelled"));
	if (s->load)
		rpc_error(&b->rpc, s->load, RPC_FIRST + SINK_ENOENT, "enoent", "The session was closed.");
	drop_held(s);
	session_free(s);
}

void acp_session_end(struct acp *a)
{
	while (a->sessions) {
		struct acp_session *s = a->sessions;

		a->sessions = s->next;
		drop_held(s);
		session_free(s);
	}
}

/* ---- what the client is told ---- */

void acp_time(double seconds, char *ret, size_t size)
{
	time_t t = (time_t)seconds;
	struct tm utc;

	if (!gmtime_r(&t, &utc) || !strftime(ret, size, "%Y-%m-%dT%H:%M:%SZ", &utc))
		*ret = '\0';
}

void acp_result(struct bridge *b, struct rpc_call *call, json_t *result)
{
	char *text = json_dumps(result, JSON_COMPACT);

	if (text)
		rpc_result(&b->rpc, call, text);
	else
		rpc_error(&b->rpc, call, RPC_INTERNAL, "enomem", "There is not enough memory.");
	free(text);
	json_decref(result);
}

/* session/update; the update is taken. */
static void tell(struct bridge *b, const struct acp_session *s, json_t *update)
{
	json_t *params = json_pack("{s:s, s:o}", "sessionId", s->id, "update", update);
	char *text = json_dumps(params, JSON_COMPACT);

	if (text)
		rpc_notify(&b->rpc, "session/update", text);
	else
		b->rpc.out.failed = true;
	free(text);
	json_decref(params);
}

/* A piece of a message. `seq` makes the id differ from that of another message that had this number. */
static void tell_chunk(struct bridge *b, const struct acp_session *s, const char *kind, int64_t number, int64_t seq,
		       const char *text, size_t len)
{
	char id[64];

	snprintf(id, sizeof(id), "%" PRId64 ".%" PRId64, number, seq);
	tell(b, s,
	     json_pack("{s:s, s:s, s:{s:s, s:o}}", "sessionUpdate", kind, "messageId", id, "content", "type", "text",
		       "text", json_stringn(text, len)));
}

void acp_session_message(struct bridge *b, const struct acp_session *s, int64_t number, const char *role,
			 const char *text, size_t len)
{
	if (strcmp(role, "user") == 0)
		tell_chunk(b, s, "user_message_chunk", number, 0, text, len);
	else if (strcmp(role, "assistant") == 0)
		tell_chunk(b, s, "agent_message_chunk", number, 0, text, len);
}

/* How many tokens a policy keeps in sight: the sum of its numbers, or the model's context where it has no end. */
static int64_t policy_size(const char *policy, int64_t context)
{
	const char *at = strchr(policy, ':');
	int64_t sum = 0;

	if (!at || strstr(policy, "all"))
		return context;
	while (at && *at && strncmp(at, ",token", 6) != 0) {
		sum += strtoll(at + 1, NULL, 10);
		at = strchr(at + 1, ',');
	}
	return sum;
}

static void tell_usage(struct bridge *b, const struct acp_session *s, int64_t used, int64_t size)
{
	tell(b, s,
	     json_pack("{s:s, s:I, s:I}", "sessionUpdate", "usage_update", "used", (json_int_t)used, "size",
		       (json_int_t)(size > used ? size : used)));
}

static int64_t info_int(const struct sink_reply *r, const char *path, const char *key)
{
	char at[64];

	snprintf(at, sizeof(at), "%s.%s", path, key);
	return sink_int(r, at, 0);
}

void acp_session_info(struct bridge *b, const struct acp_session *s, const struct sink_reply *r, const char *path)
{
	int64_t context = sink_int(sink_hello(b->sink), "model.context", 0);
	int64_t used = info_int(r, path, "pinned") + info_int(r, path, "kept") + info_int(r, path, "window");
	const char *policy;
	char at[64], when[40];

	snprintf(at, sizeof(at), "%s.policy", path);
	policy = sink_str(r, at, NULL);
	snprintf(at, sizeof(at), "%s.used", path);
	acp_time(sink_float(r, at, 0), when, sizeof(when));
	tell(b, s,
	     json_pack("{s:s, s:s, s:s}", "sessionUpdate", "session_info_update", "title", s->name, "updatedAt", when));
	tell_usage(b, s, used, policy_size(policy ? policy : "", context));
}

/* ---- events ---- */

static const char *stop_reason(const char *finish)
{
	static const char *const rows[][2] = {
		{ "end", "end_turn" },
		{ "stop", "end_turn" },
		{ "length", "max_tokens" },
		{ "stopped", "cancelled" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (finish && strcmp(rows[i][0], finish) == 0)
			return rows[i][1];
	return NULL;
}

static void end_prompt(struct bridge *b, struct acp_session *s, const struct sink_reply *done)
{
	const char *reason = stop_reason(sink_str(done, "finish", NULL));
	json_int_t in = sink_int(done, "usage.prompt", 0), cached = sink_int(done, "usage.cached", 0);
	json_int_t out = sink_int(done, "usage.generated", 0);
	struct rpc_call *call = s->prompt;

	s->prompt = NULL;
	s->said = -1;
	if (!reason) {
		rpc_error(&b->rpc, call, RPC_INTERNAL, "eio", "The answer failed: %s", s->trouble);
		return;
	}
	acp_result(b, call,
		   json_pack("{s:s, s:{s:I, s:I, s:I, s:I}}", "stopReason", reason, "usage", "totalTokens",
			     in + cached + out, "inputTokens", in, "outputTokens", out, "cachedReadTokens", cached));
}

static void fail_prompt(struct bridge *b, struct acp_session *s, const char *name, const char *text)
{
	struct rpc_call *call = s->prompt;

	s->prompt = NULL;
	s->said = -1;
	if (call)
		rpc_error(&b->rpc, call, RPC_INTERNAL, name, "%s", text);
}

static void on_message(struct bridge *b, struct acp_session *s, const struct sink_reply *ev)
{
	int64_t number = sink_int(ev, "message", -1);
	const char *role = sink_str(ev, "role", NULL), *text;
	size_t len = 0;

	text = sink_str(ev, "text", &len);
	if (text && role && strcmp(role, "user") == 0 && !(s->prompt && number == s->said))
		tell_chunk(b, s, "user_message_chunk", number, sink_int(ev, "seq", 0), text, len);
}

static void on_answer(struct bridge *b, struct acp_session *s, const struct sink_reply *ev)
{
	(void)b;
	s->answer_seq = sink_int(ev, "seq", 0);
}

static void on_text(struct bridge *b, struct acp_session *s, const struct sink_reply *ev)
{
	size_t len = 0;
	const char *text = sink_str(ev, "text", &len);

	if (text && len)
		tell_chunk(b, s, "agent_message_chunk", sink_int(ev, "message", -1), s->answer_seq, text, len);
}

static void on_done(struct bridge *b, struct acp_session *s, const struct sink_reply *ev)
{
	if (s->prompt && sink_int(ev, "message", -1) > s->said)
		end_prompt(b, s, ev);
}

static void on_error(struct bridge *b, struct acp_session *s, const struct sink_reply *ev)
{
	const char *code = sink_str(ev, "code", NULL), *text = sink_str(ev, "text", NULL);

	snprintf(s->trouble, sizeof(s->trouble), "%s", text ? text : "");
	if (code && strcmp(code, "egone") == 0) /* events were lost, perhaps the answer's end among them */
		fail_prompt(b, s, "egone", s->trouble);
}

/* A prompt whose end may have been missed is given up; what is said next attaches anew. */
static void on_ended(struct bridge *b, struct acp_session *s, const struct sink_reply *ev)
{
	const char *code = sink_str(ev, "code", NULL), *text = "";
	const int rc = sink_reply_error(ev, &text);
	const bool loads = s->load != NULL;

	if (loads)
		bridge_refuse(b, s->load, rc, text);
	s->load = NULL;
	fail_prompt(b, s, code, text);
	if (loads || rc == SINK_ENOENT)
		acp_session_forget(b, s);
}

static void on_renamed(struct bridge *b, struct acp_session *s, const struct sink_reply *ev)
{
	const char *to = sink_str(ev, "to", NULL);
	char *name = to ? strdup(to) : NULL;

	if (!name)
		return;
	free(s->name);
	s->name = name;
	tell(b, s, json_pack("{s:s, s:s}", "sessionUpdate", "session_info_update", "title", name));
}

static void on_removed(struct bridge *b, struct acp_session *s, const struct sink_reply *ev)
{
	(void)ev;
	fail_prompt(b, s, "enoent", "The conversation was removed.");
	acp_session_forget(b, s);
}

static void carry_out(struct bridge *b, struct acp_session *s, const struct sink_reply *ev)
{
	static const struct {
		const char *kind;
		void (*run)(struct bridge *b, struct acp_session *s, const struct sink_reply *ev);
	} rows[] = {
		{ "message", on_message }, { "answer", on_answer },   { "text", on_text },
		{ "done", on_done },	   { "error", on_error },     { "ended", on_ended },
		{ "renamed", on_renamed }, { "removed", on_removed },
	};
	const char *kind = sink_str(ev, "ev", NULL);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].kind, kind) == 0) {
			rows[i].run(b, s, ev);
			return;
		}
}

/* ---- events that are kept aside ---- */

static void hold(struct bridge *b, struct acp_session *s, struct sink_reply *ev)
{
	struct acp_held *h = calloc(1, sizeof(*h));

	if (!h) {
		b->rpc.out.failed = true;
		sink_reply_free(ev);
		return;
	}
	h->ev = ev;
	*s->held_end = h;
	s->held_end = &h->next;
}

/* Tells what was kept aside. The session may end with it. */
static void release_held(struct bridge *b, struct acp_session *s)
{
	struct acp_held *h = s->held;

	s->held = NULL;
	s->held_end = &s->held;
	while (h) {
		struct acp_held *next = h->next;

		carry_out(b, s, h->ev);
		sink_reply_free(h->ev);
		free(h);
		h = next;
	}
}

/* While an answer that was being written is sought, only what follows the last `answer` counts. */
static void catch_up(struct bridge *b, struct acp_session *s, struct sink_reply *ev, int64_t seq)
{
	const char *kind = sink_str(ev, "ev", NULL);
	struct rpc_call *call = s->load;

	if (strcmp(kind, "answer") == 0)
		drop_held(s);
	hold(b, s, ev);
	if (seq < s->caught_up - 1)
		return;
	s->load = NULL;
	release_held(b, s);
	rpc_result(&b->rpc, call, "{}");
}

void acp_session_event(struct bridge *b, struct sink_reply *ev)
{
	const char *name = sink_str(ev, "conversation", NULL);
	struct acp_session *s = name ? named(b->state, name) : NULL;
	int64_t seq = sink_int(ev, "seq", -1);

	if (!s || !sink_str(ev, "ev", NULL)) {
		sink_reply_free(ev);
		return;
	}
	if (s->load && seq >= 0) {
		catch_up(b, s, ev, seq);
	} else if (s->prompt && s->said < 0) {
		hold(b, s, ev);
	} else {
		carry_out(b, s, ev);
		sink_reply_free(ev);
	}
}

void acp_session_said(struct bridge *b, struct acp_session *s, int64_t message)
{
	s->said = message;
	if (message < 0)
		s->prompt = NULL;
	release_held(b, s);
}
