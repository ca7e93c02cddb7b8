/*
 * The ways into a session: a conversation is made, copied, shown from its beginning or merely joined, then attached.
 *
 * Loading shows messages up to a moment and events from it on, as `sink log -f` does. While an answer is being written
 * its message is left out, and the attachment begins early enough to see the answer's first event: acp_session.c drops
 * what comes before it.
 */
#include "acp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"

enum {
	PORTION = 64,	   /* messages fetched at once */
	LOOK_BACK = 16384, /* events in which the beginning of an answer is sought */
	BASE_MOST = 50,	   /* bytes of a name that is made of another one */
	TRIES = 100,
};

static void attach(struct bridge *b, struct acp_step *p, int64_t from, acp_then *then)
{
	struct sink_args *a = acp_step_args(p);

	if (a && from > 0)
		sink_args_int(a, "from", from);
	if (a)
		sink_args_int(a, "credit", BRIDGE_CREDIT);
	acp_step_begin(b, p, "attach", a, then);
}

/* ---- a name that is free ---- */

/* The last part of a path, or a name, as a conversation may have it. */
static void base_name(const char *path, char ret[BASE_MOST + 1])
{
	size_t len = strlen(path), from, n = 0;

	while (len && path[len - 1] == '/')
		len--;
	for (from = len; from && path[from - 1] != '/'; from--)
		;
	while (from < len && strchr(".- ", path[from]))
		from++;
	for (; from < len && n < BASE_MOST; from++) {
		unsigned char c = (unsigned char)path[from];

		ret[n++] = c < 0x20 || c == 0x7f || strchr("@=", c) ? '_' : (char)c;
	}
	ret[n] = '\0';
	ret[buf_utf8(ret, n)] = '\0'; /* where the end was cut off */
	if (!*ret)
		snprintf(ret, BASE_MOST + 1, "session");
}

/* Where a number at the end begins, with the dash before it; the end where there is none. */
static size_t number_at(const char *name)
{
	const char *dash = strrchr(name, '-');
	size_t len = strlen(name);

	if (!dash || dash == name || !dash[1] || strlen(dash) > 10 || dash[1 + strspn(dash + 1, "0123456789")])
		return len;
	return (size_t)(dash - name);
}

/* Gives the step the name with this number. */
static bool set_name(struct acp_step *p, const char *base, int64_t number)
{
	char name[BASE_MOST + 32];
	char *made;

	snprintf(name, sizeof(name), "%.*s-%" PRId64, (int)number_at(base), base, number);
	made = strdup(name);
	if (!made)
		return false;
	free(p->name);
	p->name = made;
	return true;
}

static int64_t number_of(const char *name)
{
	size_t at = number_at(name);

	return name[at] ? strtoll(name + at + 1, NULL, 10) : 0;
}

/* ---- made: new, fork ---- */

static void make(struct bridge *b, struct acp_step *p);

static void joined(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	struct acp_session *s = acp_session_meet(b->state, p->name, p->cwd);

	if (!s) {
		acp_step_starve(b, p);
		return;
	}
	acp_result(b, p->call, json_pack("{s:s}", "sessionId", s->id));
	acp_session_info(b, s, r, "conversation");
	acp_step_free(p);
}

static void made(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	attach(b, p, sink_int(r, "conversation.seq", 0), joined);
}

static void not_made(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	bool taken = sink_reply_error(r, NULL) == SINK_EEXIST;

	p->otherwise = NULL;
	if (taken && p->exact)
		attach(b, p, 0, joined); /* the conversation that was asked for */
	else if (taken && p->tries++ < TRIES && set_name(p, p->name, number_of(p->name) + 1))
		make(b, p);
	else
		acp_step_refuse(b, p, r);
}

static void make(struct bridge *b, struct acp_step *p)
{
	struct sink_args *a = sink_args_new();

	p->otherwise = not_made;
	if (a && p->source) {
		sink_args_str(a, "conversation", p->source);
		sink_args_str(a, "to", p->name);
	} else if (a) {
		sink_args_str(a, "name", p->name);
		option_sampling(&b->cli->o, NULL, 0, a);
		if (input_making(b->cli, a)) {
			sink_args_free(a);
			rpc_error(&b->rpc, p->call, RPC_INTERNAL, "einval",
				  "An option of the command line is of no use; standard error says why.");
			acp_step_free(p);
			return;
		}
	}
	acp_step_begin(b, p, p->source ? "fork" : "new", a, made);
}

/* One above the highest number that a conversation of this name has. */
static void number_it(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	size_t count = sink_count(r, "conversations"), len = number_at(p->name);
	int64_t highest = 0;
	char at[64];

	for (size_t i = 0; i < count; i++) {
		const char *other;
		int64_t n;

		snprintf(at, sizeof(at), "conversations.%zu.name", i);
		other = sink_str(r, at, NULL);
		if (!other || number_at(other) != len || strncmp(other, p->name, len) != 0)
			continue;
		n = number_of(other);
		highest = n > highest ? n : highest;
	}
	if (set_name(p, p->name, highest + 1))
		make(b, p);
	else
		acp_step_starve(b, p);
}

void acp_open_new(struct bridge *b, struct rpc_call *call, json_t *params)
{
	const char *given = b->cli->o.v[OPTION_CONVERSATION].text;
	const char *cwd = acp_text(b, call, params, "cwd");
	char base[BASE_MOST + 1];
	struct acp_step *p;

	if (!cwd)
		return;
	base_name(cwd, base);
	p = acp_step_new(b, call, given ? given : base, cwd);
	if (!p)
		return;
	p->exact = given;
	if (given)
		make(b, p);
	else
		acp_step_begin(b, p, "list", sink_args_new(), number_it);
}

void acp_open_fork(struct bridge *b, struct rpc_call *call, json_t *params)
{
	struct acp_session *s = acp_session_of(b, call, params);
	char base[BASE_MOST + 1];
	struct acp_step *p;

	if (!s)
		return;
	base_name(s->name, base);
	p = acp_step_new(b, call, base, s->cwd);
	if (!p)
		return;
	p->source = strdup(s->name);
	if (p->source)
		acp_step_begin(b, p, "list", sink_args_new(), number_it);
	else
		acp_step_starve(b, p);
}

/* ---- found: load, resume ---- */

static void loaded(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	struct acp_session *s = p->session;

	acp_session_info(b, s, r, "conversation");
	if (p->answer >= 0 && sink_int(r, "seq", 0) < p->seq) {
		s->load = p->call; /* to be answered when the events up to now have come */
		s->caught_up = p->seq;
	} else {
		rpc_result(&b->rpc, p->call, "{}");
	}
	acp_step_free(p);
}

static void fetch(struct bridge *b, struct acp_step *p);

static void fetched(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	size_t count = sink_count(r, "messages");
	int64_t from = p->seq;
	char at[64];

	for (size_t i = 0; i < count && p->at < p->messages; i++, p->at++) {
		const char *role, *text;
		size_t len = 0;

		snprintf(at, sizeof(at), "messages.%zu.role", i);
		role = sink_str(r, at, NULL);
		snprintf(at, sizeof(at), "messages.%zu.text", i);
		text = sink_str(r, at, &len);
		if (role && text && p->at != p->answer)
			acp_session_message(b, p->session, p->at, role, text, len);
	}
	if (count && p->at < p->messages) {
		fetch(b, p);
		return;
	}
	if (p->answer >= 0)
		from = p->seq - LOOK_BACK > p->first_seq ? p->seq - LOOK_BACK : p->first_seq;
	attach(b, p, from, loaded);
}

static void fetch(struct bridge *b, struct acp_step *p)
{
	struct sink_args *a = acp_step_args(p);

	if (a) {
		sink_args_int(a, "from", p->at);
		sink_args_int(a, "count", PORTION);
	}
	acp_step_begin(b, p, "log", a, fetched);
}

static void shown(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	p->session = acp_session_meet(b->state, p->name, p->cwd);
	if (!p->session) {
		acp_step_starve(b, p);
		return;
	}
	p->messages = sink_int(r, "conversation.messages", 0);
	p->seq = sink_int(r, "conversation.seq", 1);
	p->first_seq = sink_int(r, "conversation.first_seq", 1);
	p->answer = sink_int(r, "conversation.answer", -1);
	sink_detach(b->sink, p->name); /* what comes meanwhile belongs behind the past */
	fetch(b, p);
}

/* The conversation that an id means: that of a session, or the one of this name. NULL: the call was answered. */
static struct acp_step *find(struct bridge *b, struct rpc_call *call, json_t *params)
{
	const char *id = acp_text(b, call, params, "sessionId");
	const char *cwd = json_string_value(json_object_get(params, "cwd"));
	struct acp_session *s = id ? acp_session_find(b->state, id) : NULL;

	if (!id)
		return NULL;
	if (s && (s->prompt || s->load)) {
		rpc_error(&b->rpc, call, RPC_FIRST + SINK_EBUSY, "ebusy", "The session is busy.");
		return NULL;
	}
	return acp_step_new(b, call, s ? s->name : id, cwd ? cwd : "/");
}

void acp_open_load(struct bridge *b, struct rpc_call *call, json_t *params)
{
	struct acp_step *p = find(b, call, params);

	if (p)
		acp_step_begin(b, p, "show", acp_step_args(p), shown);
}

static void resumed(struct bridge *b, struct acp_step *p, struct sink_reply *r)
{
	struct acp_session *s = acp_session_meet(b->state, p->name, p->cwd);

	if (!s) {
		acp_step_starve(b, p);
		return;
	}
	rpc_result(&b->rpc, p->call, "{}");
	acp_session_info(b, s, r, "conversation");
	acp_step_free(p);
}

void acp_open_resume(struct bridge *b, struct rpc_call *call, json_t *params)
{
	struct acp_step *p = find(b, call, params);

	if (p)
		attach(b, p, 0, resumed);
}
