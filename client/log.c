/*
 * The verb `log`, and the ways into a conversation's past that the chat shares with it. Messages and events are two
 * views of one thing: the messages up to a moment, the events from the same moment on. `show` gives that moment (its
 * seq).
 */
#include "log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "follow.h"
#include "format.h"
#include "program.h"
#include "target.h"
#include "term.h"

enum {
	PORTION = 64,	  /* messages fetched at once */
	LOOK_BACK = 4096, /* events in which the beginning of an answer is sought first */
	ATTACH_MS = 30000,
};

int log_info(struct cli *c, const char *name, struct log_info *ret)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	const char *text;
	int code;

	sink_args_str(a, "conversation", name);
	r = verb_call(c, "show", a, &code);
	if (!r)
		return code;
	*ret = (struct log_info){
		.messages = sink_int(r, "conversation.messages", 0),
		.seq = sink_int(r, "conversation.seq", 1),
		.first_seq = sink_int(r, "conversation.first_seq", 1),
		.pinned = sink_int(r, "conversation.pinned", 0),
		.kept = sink_int(r, "conversation.kept", 0),
		.answer = sink_int(r, "conversation.answer", -1),
	};
	text = sink_str(r, "conversation.state", NULL);
	snprintf(ret->state, sizeof(ret->state), "%s", text ? text : "");
	text = sink_str(r, "conversation.policy", NULL);
	snprintf(ret->policy, sizeof(ret->policy), "%s", text ? text : "");
	sink_reply_free(r);
	return 0;
}

bool log_busy(const struct log_info *i)
{
	return strcmp(i->state, "queued") == 0 || strcmp(i->state, "reading") == 0 ||
	       strcmp(i->state, "answering") == 0;
}

static struct sink_reply *fetch(struct cli *c, const char *name, int64_t from, int64_t count, int *code)
{
	struct sink_args *a = sink_args_new();

	sink_args_str(a, "conversation", name);
	sink_args_int(a, "from", from);
	sink_args_int(a, "count", count);
	return verb_call(c, "log", a, code);
}

static int64_t int_at(const struct sink_reply *r, size_t i, const char *key)
{
	char path[64];

	snprintf(path, sizeof(path), "messages.%zu.%s", i, key);
	return sink_int(r, path, -1);
}

static const char *text_at(const struct sink_reply *r, size_t i, const char *key, size_t *len)
{
	char path[64];

	snprintf(path, sizeof(path), "messages.%zu.%s", i, key);
	return sink_str(r, path, len);
}

/* Where the last `lines` lines of a text begin. */
static size_t last_lines(const char *text, size_t len, size_t lines)
{
	size_t at = len;

	while (at && lines) {
		at--;
		if (text[at] == '\n' && at + 1 < len && !--lines)
			return at + 1;
	}
	return 0;
}

/*
 * Draws a line where the window begins: above the first message that ends in it. *before: the token at which the
 * message before this one has ended.
 */
static void show_horizon(const struct sink_reply *r, size_t i, const struct log_info *info, struct render *how,
			 int64_t *before)
{
	int64_t first = int_at(r, i, "first_token"), end = first + int_at(r, i, "tokens");
	int64_t window = sink_int(r, "evicted_end", 0);
	char text[160];

	if (how->style == RENDER_LOG && window > 0 && end > window && (first <= window || *before <= window))
		render_rule(how, format_horizon(info->kept, info->policy, text, sizeof(text)));
	*before = end;
}

static void show_one(const struct sink_reply *r, size_t i, const struct log_info *info, struct render *how,
		     size_t lines)
{
	int64_t first = int_at(r, i, "first_token"), end = first + int_at(r, i, "tokens");
	bool hidden = first >= info->pinned && end > first && end <= sink_int(r, "evicted_end", 0);
	const char *role = text_at(r, i, "role", NULL), *text;
	size_t len = 0, skip;

	text = text_at(r, i, "text", &len);
	if (!role || !text)
		return;
	skip = lines ? last_lines(text, len, lines) : 0;
	if (skip)
		term_note("[…]\n");
	render_message(how, int_at(r, i, "message"), role, text, len, skip,
		       hidden ? "(out of the model's sight)" : NULL);
}

int log_messages(struct cli *c, const char *name, const struct log_info *info, int64_t count, struct render *r,
		 size_t lines)
{
	int64_t at = count >= 0 && count < info->messages ? info->messages - count : 0;
	int64_t before = at ? INT64_MAX : 0;

	while (at < info->messages && !term_broken()) {
		int64_t most = info->messages - at < PORTION ? info->messages - at : PORTION;
		struct sink_reply *reply;
		size_t got;
		int code;

		reply = fetch(c, name, at, most, &code);
		if (!reply)
			return code;
		got = sink_count(reply, "messages");
		if (r->style == RENDER_JSON)
			verb_json_lines(reply, "messages");
		for (size_t i = 0; r->style != RENDER_JSON && i < got; i++) {
			if (info->answer >= 0 && int_at(reply, i, "message") == info->answer)
				continue;
			show_horizon(reply, i, info, r, &before);
			show_one(reply, i, info, r, lines);
		}
		sink_reply_free(reply);
		if (!got)
			break;
		at += (int64_t)got;
	}
	return 0;
}

/* Drops what arrives between two attachments of the same conversation. */
static void detach(struct cli *c, const char *name)
{
	struct sink_reply *ev;

	sink_detach(c->sink, name);
	while ((ev = sink_event(c->sink, 0)))
		sink_reply_free(ev);
}

/*
 * The number of the last event before `to` with which an answer begins; -1 when none lies at or behind `from`. The
 * last, because a message that was taken back gives its number to another one.
 */
static int64_t find_answer(struct cli *c, const char *name, int64_t from, int64_t to)
{
	int64_t found = -1, seq = from - 1;

	if (sink_attach(c->sink, name, from, ATTACH_MS))
		return -1;
	while (seq < to - 1) {
		struct sink_reply *ev = sink_event(c->sink, ATTACH_MS);
		const char *kind = ev ? sink_str(ev, "ev", NULL) : NULL;

		if (!ev)
			break;
		seq = sink_int(ev, "seq", seq);
		if (kind && strcmp(kind, "answer") == 0 && seq < to)
			found = seq;
		sink_reply_free(ev);
	}
	detach(c, name);
	return found;
}

int log_attach(struct cli *c, const char *name, const struct log_info *info)
{
	int64_t from = info->seq, found = -1;

	for (int64_t back = LOOK_BACK; strcmp(info->state, "answering") == 0 && found < 0 && from > info->first_seq;
	     back *= 8) {
		from = info->seq - back > info->first_seq ? info->seq - back : info->first_seq;
		found = find_answer(c, name, from, info->seq);
	}
	return sink_attach(c->sink, name, found < 0 ? info->seq : found, ATTACH_MS) ? fail_sink(c->sink) : 0;
}

/* When to end: never, at the last event before `seq`, or with the first answer that ends at `seq` or later. */
struct until {
	enum { UNTIL_NEVER, UNTIL_SEQ, UNTIL_DONE } what;
	int64_t seq;
};

static bool reached(const struct until *u, const struct sink_reply *ev, enum render_end end)
{
	int64_t seq = sink_int(ev, "seq", -1);

	if (end == RENDER_GONE)
		return true;
	if (u->what == UNTIL_SEQ)
		return seq >= u->seq - 1;
	return u->what == UNTIL_DONE && end == RENDER_DONE && seq >= u->seq;
}

/* Shows events as they come, until a signal or that end. */
static int show_events(struct cli *c, struct render *r, struct until until)
{
	bool over = false;
	struct follow f;
	struct sink_reply *ev;
	int code = 0, sig = 0;

	follow_open(&f, c->sink, c->endpoint, 0);
	while (!over && !term_broken()) {
		switch (follow_next(&f, -1, &ev, &sig)) {
		case FOLLOW_EVENT:
			over = reached(&until, ev, render_event(r, ev));
			sink_reply_free(ev);
			break;
		case FOLLOW_SIGNAL:
			over = sig != SIGWINCH;
			code = over ? 128 + sig : 0;
			break;
		case FOLLOW_LOST:
			over = true;
			code = follow_lost(&f);
			break;
		case FOLLOW_AWAY:
			render_away(r);
			break;
		case FOLLOW_TIMEOUT:
		case FOLLOW_INPUT:
			break;
		}
	}
	follow_close(&f);
	render_newline(r);
	return code;
}

/* Events from a number on: to the end of what is going on, and with `on` for ever. */
static int replay(struct cli *c, const char *name, struct render *r, const struct log_info *info, bool on)
{
	struct until until = { on ? UNTIL_NEVER : log_busy(info) ? UNTIL_DONE : UNTIL_SEQ, info->seq };
	int64_t from = c->o.v[OPTION_FROM].given ? c->o.v[OPTION_FROM].number : info->seq;

	if (from < 0)
		return fail(FAIL_USAGE, "Option --from takes a number of 0 or more.");
	if (from < 1)
		from = info->first_seq;
	if (until.what == UNTIL_SEQ && from == info->seq)
		return 0;
	if (sink_attach(c->sink, name, from, ATTACH_MS))
		return fail_sink(c->sink);
	return show_events(c, r, until);
}

int log_watch(struct cli *c, const char *name)
{
	const struct option_value *v = c->o.v;
	struct log_info info;
	struct render r;
	int code = log_info(c, name, &info);

	if (code)
		return code;
	render_init(&r, v[OPTION_JSON].given ? RENDER_JSON : RENDER_LOG, name, info.policy);
	if (v[OPTION_JSON].given)
		return replay(c, name, &r, &info, true);
	code = log_messages(c, name, &info, v[OPTION_NUMBER].given ? v[OPTION_NUMBER].number : -1, &r, 0);
	if (!code)
		code = log_attach(c, name, &info);
	return code ? code : show_events(c, &r, (struct until){ UNTIL_NEVER, 0 });
}

/* How many of the last messages are of a time or later: times only grow, so the first of them is found by halves. */
static int count_since(struct cli *c, const char *name, const struct log_info *info, double since, int64_t *count)
{
	int64_t low = 0, high = info->messages;
	int code = 0;

	while (low < high && !code) {
		int64_t middle = low + (high - low) / 2;
		struct sink_reply *r = fetch(c, name, middle, 1, &code);

		if (r && sink_float(r, "messages.0.time", 0) < since)
			low = middle + 1;
		else
			high = middle;
		sink_reply_free(r);
	}
	*count = info->messages - low;
	return code;
}

/* The messages that the options choose. */
static int show_messages(struct cli *c, const char *name, struct log_info *info, struct render *r)
{
	const struct option_value *v = c->o.v;
	int64_t count = v[OPTION_NUMBER].given ? v[OPTION_NUMBER].number : -1, recent;
	int code = 0;

	if (v[OPTION_SINCE].given) {
		struct timespec now;
		double since;

		clock_gettime(CLOCK_REALTIME, &now);
		since = format_moment(v[OPTION_SINCE].text, (double)now.tv_sec + (double)now.tv_nsec / 1e9);

		if (since < 0)
			return fail(FAIL_USAGE,
				    "Option --since takes a time such as 10m, 3h, 2026-01-31 or "
				    "\"2026-01-31 12:30\", not \"%.40s\".",
				    v[OPTION_SINCE].text);
		code = count_since(c, name, info, since, &recent);
		count = count < 0 || recent < count ? recent : count;
	}
	if (code)
		return code;
	if (!v[OPTION_NO_PAGER].given && r->style == RENDER_LOG)
		program_page();
	info->answer = -1;
	code = log_messages(c, name, info, count, r, 0);
	program_page_end();
	return code;
}

int log_run(struct cli *c)
{
	const struct option_value *v = c->o.v;
	char name[TARGET_SIZE];
	struct log_info info;
	struct render r;
	int code = target_find(c, c->o.count ? c->o.args[0] : NULL, TARGET_NEAR, name);

	if (code)
		return code;
	if (v[OPTION_NUMBER].given && v[OPTION_NUMBER].number < 0)
		return fail(FAIL_USAGE, "Option --number takes a number of 0 or more.");
	if (v[OPTION_SINCE].given && (v[OPTION_FROM].given || v[OPTION_FOLLOW].given))
		return fail(FAIL_USAGE, "Option --since goes neither with --from nor with -f.");
	if (v[OPTION_FOLLOW].given && !v[OPTION_FROM].given)
		return log_watch(c, name);
	code = log_info(c, name, &info);
	if (code)
		return code;
	render_init(&r, v[OPTION_JSON].given ? RENDER_JSON : RENDER_LOG, name, info.policy);
	if (v[OPTION_FROM].given)
		return replay(c, name, &r, &info, v[OPTION_FOLLOW].given);
	return show_messages(c, name, &info, &r);
}
