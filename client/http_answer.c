/* The course of an answer. Whoever is called in the end may free it, so nothing is touched behind that. */
#include "http_answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_store.h"

void http_answer_init(struct http_answer *a, struct http_request *q, const struct http_form *form, const char *name)
{
	*a = (struct http_answer){ .http = q->http, .request = q, .form = form, .asked = q->began, .cached = -1 };
	snprintf(a->name, sizeof(a->name), "%s", name);
}

void http_answer_release(struct http_answer *a)
{
	http_ask_forget(a->http, a);
	http_unfollow(a->follow);
	a->follow = NULL;
	if (a->expected)
		http_feed_expected(a->http, a->name);
	a->expected = false;
	buf_release(&a->text);
}

/* ---- the conversation, when it is over ---- */

/* What stands in the chain for what was said this time cannot be relied on. */
static void spoil_chain(struct http_answer *a)
{
	http_match_cut(a->chain, a->known);
	http_match_push(a->chain, (struct http_hash){ 0 });
}

static void leave_conversation(struct http_answer *a, const struct http_error *e)
{
	struct http_chain *c = a->chain;

	if (a->temporary) {
		http_ask(a->http, "remove", http_ask_args("conversation", a->name), NULL, NULL);
		return;
	}
	if (!c)
		return;
	a->chain = NULL;
	c->busy = false;
	if (e && !a->follow && (a->broken || !a->reused || e->status == 404)) {
		http_store_remove(a->http, c);
		return;
	}
	a->chain = c;
	if (e && !a->follow) {
		http_match_cut(c, a->known); /* one thing was to be said, and was not */
	} else if (e || strcmp(a->finish, "stopped") == 0) {
		if (!a->last)
			spoil_chain(a);
		else
			http_match_push(c, (struct http_hash){ 0 });
	} else {
		struct http_hash before = c->count ? c->hash[c->count - 1] : c->root;

		http_match_push(c, http_match_next(before, "assistant", buf_text(&a->text), a->text.size));
	}
	a->chain = NULL;
	http_store_trim(a->http);
}

static void end(struct http_answer *a, const struct http_error *e)
{
	struct http_count *count = &a->http->count;

	leave_conversation(a, e);
	if (!e) {
		count->prompt += (uint64_t)a->prompt;
		count->cached += (uint64_t)a->cached;
		count->generated += (uint64_t)a->generated;
	}
	http_ask_forget(a->http, a);
	http_unfollow(a->follow);
	a->follow = NULL;
	a->form->ended(a, e);
}

static void fail(struct http_answer *a, int code, const char *text)
{
	struct http_error e;

	http_error_sink(&e, code, text);
	end(a, &e);
}

/* ---- its events ---- */

static void take_text(struct http_answer *a, const struct sink_reply *ev)
{
	size_t len = 0;
	const char *text = sink_str(ev, "text", &len);
	int64_t now = http_clock_us();

	if (!text)
		return;
	http_count_time(a->last ? &a->http->count.gap : &a->http->count.first,
			(double)(now - (a->last ? a->last : a->asked)) / 1e6);
	a->last = now;
	buf_add(&a->text, text, len);
	if (a->form->text && a->request)
		a->form->text(a, ev);
}

static void take_done(struct http_answer *a, const struct sink_reply *ev)
{
	const char *finish = sink_str(ev, "finish", NULL);
	int64_t cached = sink_int(ev, "usage.cached", 0);

	snprintf(a->finish, sizeof(a->finish), "%s", finish ? finish : "error");
	a->prompt = sink_int(ev, "usage.prompt", 0) + cached;
	/* What was said ahead of the last message was read for this request, too. */
	a->cached = a->cached >= 0 && a->cached < cached ? a->cached : cached;
	a->generated = sink_int(ev, "usage.generated", 0);
	if (strcmp(a->finish, "error") == 0 && !a->error.status)
		http_error_set(&a->error, 500, "generation_failed", NULL, "The answer could not be finished.");
	end(a, a->error.status && strcmp(a->finish, "error") == 0 ? &a->error : NULL);
}

static void take_event(void *owner, const struct sink_reply *ev)
{
	struct http_answer *a = owner;
	const char *kind = sink_str(ev, "ev", NULL), *name;
	int64_t message = sink_int(ev, "message", -1);

	if (strcmp(kind, "answer") == 0 && !a->answering) {
		a->message = message; /* the first one after what was asked */
		a->answering = true;
	}
	if (strcmp(kind, "text") == 0 && message == a->message)
		take_text(a, ev);
	else if (strcmp(kind, "done") == 0 && message == a->message)
		take_done(a, ev);
	else if (strcmp(kind, "error") == 0)
		http_error_sink(&a->error, SINK_EBUSY, sink_str(ev, "text", NULL));
	else if (strcmp(kind, "rewound") == 0 && sink_int(ev, "messages", 0) <= a->message)
		fail(a, SINK_EGONE, "The answer was forgotten while it was written.");
	else if (strcmp(kind, "renamed") == 0 && (name = sink_str(ev, "to", NULL)))
		snprintf(a->name, sizeof(a->name), "%s", name);
}

static void lose(void *owner, int code, const char *text)
{
	struct http_answer *a = owner;

	fail(a, code, text);
}

static const struct http_follower follower = { take_event, lose };

/* ---- what is asked ---- */

static void asked_bearing(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct http_answer *a = owner;

	if (code && code != SINK_EEXIST) {
		fail(a, code, text);
		return;
	}
	if (!code && a->cached < 0)
		a->cached = sink_int(r, "conversation.tokens", 0);
}

static void asked(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct http_answer *a = owner;

	if (code) {
		fail(a, code, text);
		return;
	}
	if (a->cached < 0)
		a->cached = sink_int(r, "conversation.tokens", 0);
	if (a->chain)
		a->chain->made = true;
	if (a->chain && a->chain->first < 0 && sink_has(r, "message"))
		a->chain->first = sink_int(r, "message", 0);
}

static void asked_last(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct http_answer *a = owner;

	if (!code) {
		asked(a, r, 0, NULL);
		a->seq = sink_int(r, "seq", 1);
		a->message = sink_int(r, "message", 0) + 1;
		a->follow = http_follow_on(a->http, a->name, a->seq, &follower, a);
	}
	http_feed_expected(a->http, a->name);
	a->expected = false;
	if (code || !a->follow)
		fail(a, code ? code : SINK_ENOMEM, code ? text : "There is no memory to follow the answer.");
	else if (a->leaving)
		http_ask(a->http, "stop", http_ask_args("conversation", a->name), NULL, NULL);
	else if (a->form->begun)
		a->form->begun(a);
}

void http_answer_ask(struct http_answer *a, const char *op, struct sink_args *args, int bear)
{
	a->broken = true;
	http_ask_long(a->http, op, args, bear ? asked_bearing : asked, a);
}

static void asked_first(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct http_answer *a = owner;

	if (!code && a->leaving)
		code = SINK_ECONN; /* it is of no use to anybody */
	asked(a, r, code, text);
	if (!code)
		a->then(a);
}

void http_answer_ask_then(struct http_answer *a, const char *op, struct sink_args *args,
			  void (*then)(struct http_answer *a))
{
	a->broken = true;
	a->then = then;
	http_ask_long(a->http, op, args, asked_first, a);
}

bool http_answer_sampling(struct sink_args *args, const struct http_plan *plan)
{
	char *text = json_dumps(plan->sampling, JSON_COMPACT);
	bool good = args && text && sink_args_json(args, "sampling", text, strlen(text));

	free(text);
	return good;
}

static void cannot_ask(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct http_answer *a = owner;

	(void)r;
	(void)code;
	(void)text;
	fail(a, SINK_EINVAL, "The sampling settings or the schema cannot be said in the daemon's protocol.");
}

void http_answer_ask_last(struct http_answer *a, const char *op, struct sink_args *args, const struct http_plan *plan)
{
	a->expected = http_feed_expect(a->http, a->name);
	if (!a->expected || !http_answer_sampling(args, plan)) {
		sink_args_free(args);
		http_ask(a->http, "status", NULL, cannot_ask, a); /* to be told later, as all else is */
		return;
	}
	sink_args_str(args, "conversation", a->name);
	sink_args_bool(args, "attach", true);
	http_ask_long(a->http, op, args, asked_last, a);
}

bool http_answer_leave(struct http_answer *a)
{
	a->request = NULL;
	if (a->goes_on) /* what was asked is carried out; of our own conversations it must be known what stands there */
		return !a->chain;
	a->leaving = true;
	if (a->follow)
		http_ask(a->http, "stop", http_ask_args("conversation", a->name), NULL, NULL);
	return false;
}

/* ---- forms ---- */

const char *http_answer_finish(const struct http_answer *a)
{
	return strcmp(a->finish, "length") == 0 ? "length" : "stop";
}

json_t *http_answer_usage(const struct http_answer *a)
{
	return json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", (json_int_t)a->prompt, "completion_tokens",
			 (json_int_t)a->generated, "total_tokens", (json_int_t)(a->prompt + a->generated),
			 "prompt_tokens_details", "cached_tokens", (json_int_t)a->cached);
}
