/*
 * The connection to the daemon. Until the first one stands it is tried each second, since a gateway may be started
 * before its daemon; from then on libsink comes back by itself.
 */
#include "http_daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http_feed.h"
#include "http_store.h"

enum {
	OPEN_MS = 200,	 /* how long a daemon that does not greet may hold up the loop */
	PAUSE_MS = 1000, /* between attempts */
	TURN_MOST = 512, /* replies and events in one turn, so that sockets are served too */
	LONG_MS = 24 * 3600 * 1000,
};

struct http_call {
	TAILQ_ENTRY(http_call) link;
	int64_t number; /* 0: it could not be sent, and its asker is to be told */
	int code;
	char text[200];
	void (*done)(void *owner, const struct sink_reply *r, int code, const char *text);
	void *owner;
};

int64_t http_clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t http_clock(void)
{
	return http_clock_us() / 1000;
}

/* The id of the model: the base of its file's name says too little (default.gguf), its own name has blanks. */
static void name_model(struct http *h)
{
	const char *name = sink_str(sink_hello(h->sink), "model.name", NULL);
	size_t n = 0;

	for (; name && *name && n + 1 < sizeof(h->model); name++)
		h->model[n++] = *name == ' ' || *name == '/' ? '-' : *name;
	h->model[n] = '\0';
	if (!n)
		snprintf(h->model, sizeof(h->model), "sinkd");
}

static bool open_connection(struct http *h)
{
	if (h->sink)
		return true;
	if (http_clock() < h->next_open)
		return false;
	h->sink = sink_open(h->endpoint, "sinkd-http", OPEN_MS);
	h->next_open = http_clock() + PAUSE_MS;
	if (!h->sink)
		return false;
	name_model(h);
	http_store_load(h);
	return true;
}

bool http_daemon_connected(const struct http *h)
{
	return h->sink && sink_connected(h->sink);
}

int http_daemon_fd(const struct http *h)
{
	return h->sink ? sink_fd(h->sink) : -1;
}

struct sink_args *http_ask_args(const char *key, const char *value)
{
	struct sink_args *a = sink_args_new();

	if (a)
		sink_args_str(a, key, value);
	return a;
}

static void fail_call(struct http_call *c, int code, const char *text)
{
	c->number = 0;
	c->code = code < 0 ? code : SINK_EIO;
	snprintf(c->text, sizeof(c->text), "%s", text);
}

static void ask(struct http *h, const char *op, struct sink_args *args, int timeout_ms,
		void (*done)(void *owner, const struct sink_reply *r, int code, const char *text), void *owner)
{
	struct http_call *c = calloc(1, sizeof(*c));

	if (!c) { /* the client's connection then ends by its time limit */
		sink_args_free(args);
		return;
	}
	c->done = done;
	c->owner = owner;
	if (h->sink && args) {
		c->number = sink_begin(h->sink, op, args, timeout_ms);
		if (c->number <= 0)
			fail_call(c, sink_error(h->sink), sink_error_text(h->sink));
	} else {
		sink_args_free(args);
		fail_call(c, args ? SINK_ECONN : SINK_ENOMEM,
			  args ? "The daemon does not run." : "There is no memory for a request.");
	}
	TAILQ_INSERT_TAIL(&h->calls, c, link);
}

void http_ask(struct http *h, const char *op, struct sink_args *args,
	      void (*done)(void *owner, const struct sink_reply *r, int code, const char *text), void *owner)
{
	ask(h, op, args ? args : sink_args_new(), HTTP_PATIENCE_MS, done, owner);
}

void http_ask_long(struct http *h, const char *op, struct sink_args *args,
		   void (*done)(void *owner, const struct sink_reply *r, int code, const char *text), void *owner)
{
	ask(h, op, args ? args : sink_args_new(), LONG_MS, done, owner);
}

void http_ask_forget(struct http *h, const void *owner)
{
	struct http_call *c;

	TAILQ_FOREACH(c, &h->calls, link)
	if (c->owner == owner)
		c->done = NULL;
}

static void finish(struct http *h, struct http_call *c, const struct sink_reply *r, int code, const char *text)
{
	TAILQ_REMOVE(&h->calls, c, link);
	if (c->done)
		c->done(c->owner, code ? NULL : r, code, text);
	free(c);
}

static void take_reply(struct http *h, int64_t number, const struct sink_reply *r)
{
	const char *text = "";
	struct http_call *c;
	int code = sink_reply_error(r, &text);

	TAILQ_FOREACH(c, &h->calls, link)
	if (c->number == number) {
		finish(h, c, r, code, text);
		return;
	}
}

static struct http_call *first_failed(struct http *h)
{
	struct http_call *c;

	TAILQ_FOREACH(c, &h->calls, link)
	if (!c->number)
		return c;
	return NULL;
}

/* Those that could not be sent. What is asked meanwhile, and fails as well, is a matter of the next turn. */
static bool tell_failed(struct http *h)
{
	struct http_call *c;
	size_t count = 0;
	bool any;

	TAILQ_FOREACH(c, &h->calls, link)
	count += !c->number;
	any = count > 0;
	while (count-- && (c = first_failed(h)))
		finish(h, c, NULL, c->code, c->text);
	return any;
}

/* The connection is of no use any more: another daemon speaks another version, perhaps. */
static void give_up(struct http *h)
{
	struct http_call *c;
	char text[200];

	snprintf(text, sizeof(text), "%s", sink_error_text(h->sink));
	sink_close(h->sink);
	h->sink = NULL;
	TAILQ_FOREACH(c, &h->calls, link)
	if (c->number)
		fail_call(c, SINK_ECONN, text);
	http_feed_end(h, SINK_ECONN, text);
}

/* Who still waits is told, so that each gives back what it holds; what those ask meanwhile fails at once. */
void http_daemon_close(struct http *h)
{
	static const char text[] = "The gateway ends.";
	struct http_call *c;

	sink_close(h->sink);
	h->sink = NULL;
	http_feed_end(h, SINK_ECONN, text);
	TAILQ_FOREACH(c, &h->calls, link)
	fail_call(c, SINK_ECONN, text);
	while (tell_failed(h))
		;
}

bool http_daemon_run(struct http *h)
{
	bool more = tell_failed(h);
	struct sink_reply *r;

	if (!open_connection(h))
		return more;
	for (int i = 0; i < TURN_MOST; i++) {
		int64_t number;

		r = sink_event(h->sink, 0);
		if (!r && sink_error(h->sink)) {
			give_up(h);
			return true;
		}
		if (!r)
			return more;
		number = sink_reply_request(r);
		if (number > 0)
			take_reply(h, number, r);
		else
			http_feed_event(h, r);
		sink_reply_free(r);
	}
	return true;
}
