/*
 * /v1/responses: an answer in a conversation that may be gone on with later; and /v1/responses/{id}: what it has come
 * to, its stream once more and on, its cancellation, its removal. All of that is read from the conversation's events,
 * which the daemon keeps; the gateway remembers nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_api.h"
#include "http_daemon.h"
#include "http_feed.h"
#include "http_say.h"

/* ---- one that is written ---- */

static void begun(struct http_answer *a)
{
	struct http_say *s = (struct http_say *)a;
	struct http_response *r = s->response;

	r->id = (struct http_response_id){ .stored = s->plan.store,
					   .message = a->message,
					   .seq = a->seq,
					   .created = s->created,
					   .cached = a->cached };
	snprintf(r->id.name, sizeof(r->id.name), "%s", a->name);
	http_id_write(&r->id, r->text_id);
	r->streams = s->plan.stream;
	http_request_mark(a->request, "X-Conversation-Id", a->name);
	http_response_begin(r);
	if (!s->plan.background)
		return;
	a->goes_on = true;
	if (r->streams)
		return;
	http_request_answer(a->request, 200, http_response_object(r));
	a->request = r->request = NULL; /* it is followed to its end, and nobody is told */
}

static void text(struct http_answer *a, const struct sink_reply *ev)
{
	struct http_say *s = (struct http_say *)a;
	size_t len = 0;
	const char *piece = sink_str(ev, "text", &len);

	http_response_text(s->response, piece, len);
}

static void ended(struct http_answer *a, const struct http_error *e)
{
	struct http_say *s = (struct http_say *)a;
	struct http_response *r = s->response;

	if (http_say_again(s, e))
		return;
	r->request = a->request;
	r->usage = !e;
	r->prompt = a->prompt;
	r->cached = a->cached;
	r->generated = a->generated;
	if (a->request && e && !*r->text_id)
		http_request_fail(a->request, e);
	else if (a->request)
		http_response_end(r, a->finish, e);
	http_say_free(s);
}

void http_response_post(struct http_request *q)
{
	static const struct http_form form = { begun, text, ended };
	struct http_say *s = http_say_new(q, &form, http_plan_response);
	struct http_error e;

	if (!s)
		return;
	s->response = http_response_new(q->http, q);
	if (s->plan.previous)
		s->follows = http_id_read(s->plan.previous, &s->after);
	if (!s->response || (s->plan.previous && (!s->follows || !s->after.stored))) {
		http_error_set(&e, 404, "not_found", "previous_response_id", "There is no response of this id.");
		http_request_fail(q, &e);
		http_say_free(s);
		return;
	}
	s->response->settings = json_incref(s->plan.root);
	s->response->background = s->plan.background;
	http_say_start(s);
}

/* ---- one that is asked for later ---- */

struct fetch {
	struct http *http;
	struct http_request *request;
	struct http_response *response;
	struct http_follow *follow;
	bool cancels;
	int64_t end; /* the event that comes next when all that is there was seen */
};

static void release(void *owner)
{
	struct fetch *f = owner;

	http_ask_forget(f->http, f);
	http_unfollow(f->follow);
	http_response_free(f->response);
	free(f);
}

static void fail(struct fetch *f, int code, const char *text)
{
	struct http_error e;

	http_error_sink(&e, code, text);
	if (e.status == 404)
		http_error_set(&e, 404, "not_found", NULL, "There is no response of this id any more.");
	if (f->request->streams) {
		http_request_event(f->request, "error", http_error_body(&e));
		http_request_end(f->request);
	} else {
		http_request_fail(f->request, &e);
	}
	release(f);
}

/* ---- events ---- */

static void take_done(struct fetch *f, const struct sink_reply *ev)
{
	struct http_response *r = f->response;
	const char *finish = sink_str(ev, "finish", NULL);
	int64_t cached = sink_int(ev, "usage.cached", 0);

	r->usage = true;
	r->prompt = sink_int(ev, "usage.prompt", 0) + cached;
	r->cached = r->id.cached < cached ? r->id.cached : cached;
	r->generated = sink_int(ev, "usage.generated", 0);
	http_response_end(r, finish ? finish : "error", NULL);
	release(f);
}

static void take_event(void *owner, const struct sink_reply *ev)
{
	struct fetch *f = owner;
	struct http_response *r = f->response;
	const char *kind = sink_str(ev, "ev", NULL), *text;
	bool ours = sink_int(ev, "message", -1) == r->id.message;
	size_t len = 0;

	if (strcmp(kind, "text") == 0 && ours && (text = sink_str(ev, "text", &len)))
		http_response_text(r, text, len);
	if (strcmp(kind, "done") == 0 && ours) {
		take_done(f, ev);
		return;
	}
	if (r->streams || f->cancels || sink_int(ev, "seq", 0) + 1 < f->end)
		return;
	http_request_answer(f->request, 200, http_response_object(r)); /* not done yet */
	release(f);
}

/* ---- what the events no longer have ---- */

static void took_log(void *owner, const struct sink_reply *reply, int code, const char *text)
{
	struct fetch *f = owner;
	const char *said = code ? NULL : sink_str(reply, "messages.0.text", NULL), *finish;
	size_t len = 0;

	if (code || !said) {
		fail(f, code ? code : SINK_ENOENT, text);
		return;
	}
	said = sink_str(reply, "messages.0.text", &len);
	finish = sink_str(reply, "messages.0.finish", NULL);
	http_response_text(f->response, said, len);
	http_response_end(f->response, finish ? finish : "end", NULL);
	release(f);
}

static void lose(void *owner, int code, const char *text)
{
	struct fetch *f = owner;
	struct sink_args *a;

	f->follow = NULL;
	if (code != SINK_EGONE) {
		fail(f, code, text);
		return;
	}
	a = http_ask_args("conversation", f->response->id.name);
	if (a) {
		sink_args_int(a, "from", f->response->id.message);
		sink_args_int(a, "count", 1);
	}
	http_ask(f->http, "log", a, took_log, f);
}

static const struct http_follower follower = { take_event, lose };

static void follow(struct fetch *f)
{
	struct http_response *r = f->response;

	if (f->request->path == HTTP_RESPONSE && f->request->method != HTTP_DELETE) {
		const char *stream = http_request_query(f->request, "stream"),
			   *after = http_request_query(f->request, "starting_after");

		r->streams = stream && (strcmp(stream, "true") == 0 || strcmp(stream, "1") == 0);
		r->after = after ? strtoll(after, NULL, 10) : -1;
	}
	http_response_begin(r);
	f->follow = http_follow_from(f->http, r->id.name, r->id.seq, &follower, f);
	if (!f->follow)
		fail(f, SINK_ENOMEM, "There is no memory to follow the response.");
}

/* ---- requests ---- */

static void stopped(void *owner, const struct sink_reply *reply, int code, const char *text)
{
	struct fetch *f = owner;

	(void)reply;
	if (code)
		fail(f, code, text);
	else
		follow(f);
}

static void shown(void *owner, const struct sink_reply *reply, int code, const char *text)
{
	struct fetch *f = owner;
	const char *state = code ? NULL : sink_str(reply, "conversation.state", NULL);
	bool busy = state && strcmp(state, "idle") != 0 && strcmp(state, "failed") != 0;
	int64_t messages = code ? 0 : sink_int(reply, "conversation.messages", 0), message = f->response->id.message;

	if (code || messages < message || (messages == message && !busy)) {
		fail(f, code ? code : SINK_ENOENT, text);
		return;
	}
	f->end = sink_int(reply, "conversation.seq", 1);
	if (f->cancels && busy && messages <= message + 1)
		http_ask(f->http, "stop", http_ask_args("conversation", f->response->id.name), stopped, f);
	else
		follow(f);
}

static void removed(void *owner, const struct sink_reply *reply, int code, const char *text)
{
	struct fetch *f = owner;

	(void)reply;
	if (code) {
		fail(f, code, text);
		return;
	}
	http_request_answer(
		f->request, 200,
		json_pack("{s:s, s:s, s:b}", "id", f->response->text_id, "object", "response", "deleted", 1));
	release(f);
}

/* A response goes with what it answers; one that others stand on stays. */
static void remove_shown(void *owner, const struct sink_reply *reply, int code, const char *text)
{
	struct fetch *f = owner;
	const struct http_response_id *id = &f->response->id;
	struct http_chain *c = http_match_named(&f->http->match, id->name);
	struct http_error e;
	struct sink_args *a;

	if (code || sink_int(reply, "conversation.messages", 0) <= id->message) {
		fail(f, code ? code : SINK_ENOENT, text);
		return;
	}
	if (sink_int(reply, "conversation.messages", 0) > id->message + 1) {
		http_error_set(&e, 409, "conflict", NULL, "Later messages stand on this response.");
		http_request_fail(f->request, &e);
		release(f);
		return;
	}
	a = http_ask_args("conversation", id->name);
	if (c && !c->busy && !c->held && id->message - 1 <= c->first) {
		http_match_drop(&f->http->match, c);
		http_ask(f->http, "remove", a, removed, f);
		return;
	}
	if (c)
		http_match_cut(c, (size_t)(id->message - 1 - c->first));
	if (a)
		sink_args_int(a, "message", id->message - 1);
	http_ask(f->http, "rewind", a, removed, f);
}

static void begin(struct http_request *q, bool cancels,
		  void (*done)(void *owner, const struct sink_reply *reply, int code, const char *text))
{
	struct fetch *f = calloc(1, sizeof(*f));
	struct http_error e;

	if (f)
		f->response = http_response_new(q->http, q);
	if (!f || !f->response) {
		free(f);
		http_request_answer(q, 500, NULL);
		return;
	}
	f->http = q->http;
	f->request = q;
	f->cancels = cancels;
	if (!http_id_read(q->id, &f->response->id) || !f->response->id.stored) {
		http_error_set(&e, 404, "not_found", NULL, "There is no response of this id.");
		http_request_fail(q, &e);
		release(f);
		return;
	}
	http_id_write(&f->response->id, f->response->text_id);
	q->owner = f;
	q->gone = release;
	http_ask(q->http, "show", http_ask_args("conversation", f->response->id.name), done, f);
}

void http_response_get(struct http_request *q)
{
	begin(q, false, shown);
}

void http_response_cancel(struct http_request *q)
{
	begin(q, true, shown);
}

void http_response_delete(struct http_request *q)
{
	begin(q, false, remove_shown);
}
