/*
 * Attachments and their followers. A callback may end any follow and begin others, so a walk over followers marks the
 * feed, and what has ended is freed when the walk is over.
 */
#include "http_feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_daemon.h"

struct http_follow {
	TAILQ_ENTRY(http_follow) link;
	struct http_feed *feed;
	int64_t next; /* the event that it is to have next */
	bool ended;
	const struct http_follower *who;
	void *owner;
};

struct http_feed {
	TAILQ_ENTRY(http_feed) link;
	struct http *http;
	char name[HTTP_NAME_MOST];
	size_t expected;
	int walking;
	bool attached;
	TAILQ_HEAD(, http_follow) follows;
};

static struct http_feed *feed_named(struct http *h, const char *name)
{
	struct http_feed *f;

	TAILQ_FOREACH(f, &h->feeds, link)
	if (strcmp(f->name, name) == 0)
		return f;
	return NULL;
}

static struct http_feed *feed_of(struct http *h, const char *name)
{
	struct http_feed *f = feed_named(h, name);

	if (f || strlen(name) >= sizeof(f->name))
		return f;
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->http = h;
	memcpy(f->name, name, strlen(name) + 1);
	TAILQ_INIT(&f->follows);
	TAILQ_INSERT_TAIL(&h->feeds, f, link);
	return f;
}

/* Gives the feed up when nobody needs it. */
static void tidy(struct http_feed *f)
{
	struct http_follow *w, *next;

	if (f->walking)
		return;
	for (w = TAILQ_FIRST(&f->follows); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (!w->ended)
			continue;
		TAILQ_REMOVE(&f->follows, w, link);
		free(w);
	}
	if (f->expected || !TAILQ_EMPTY(&f->follows))
		return;
	if (f->attached && f->http->sink)
		sink_detach(f->http->sink, f->name);
	http_ask_forget(f->http, f);
	TAILQ_REMOVE(&f->http->feeds, f, link);
	free(f);
}

bool http_feed_expect(struct http *h, const char *name)
{
	struct http_feed *f = feed_of(h, name);

	if (f)
		f->expected++;
	return f != NULL;
}

void http_feed_expected(struct http *h, const char *name)
{
	struct http_feed *f = feed_named(h, name);

	if (!f)
		return;
	f->expected--;
	tidy(f);
}

static struct http_follow *follow_at(struct http_feed *f, int64_t seq, const struct http_follower *who, void *owner)
{
	struct http_follow *w = f ? calloc(1, sizeof(*w)) : NULL;

	if (!w)
		return NULL;
	*w = (struct http_follow){ .feed = f, .next = seq, .who = who, .owner = owner };
	TAILQ_INSERT_TAIL(&f->follows, w, link);
	return w;
}

struct http_follow *http_follow_on(struct http *h, const char *name, int64_t seq, const struct http_follower *who,
				   void *owner)
{
	struct http_follow *w = follow_at(feed_of(h, name), seq, who, owner);

	if (w)
		w->feed->attached = true;
	return w;
}

void http_unfollow(struct http_follow *w)
{
	if (!w)
		return;
	w->ended = true;
	tidy(w->feed);
}

/* Calls one of the followers' functions for each of them that is there now. */
static void lose(struct http_feed *f, int code, const char *text)
{
	struct http_follow *w;

	f->walking++;
	TAILQ_FOREACH(w, &f->follows, link)
	{
		if (w->ended)
			continue;
		w->ended = true;
		w->who->lost(w->owner, code, text);
	}
	f->walking--;
	tidy(f);
}

static void attached(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct http_feed *f = owner;

	(void)r;
	f->attached = !code;
	if (code)
		lose(f, code, text);
}

/* Attaches where the one that is farthest behind wants to go on. */
static void attach(struct http_feed *f)
{
	struct sink_args *a = http_ask_args("conversation", f->name);
	struct http_follow *w;
	int64_t from = -1;

	TAILQ_FOREACH(w, &f->follows, link)
	if (!w->ended && (from < 0 || w->next < from))
		from = w->next;
	if (a && from > 0)
		sink_args_int(a, "from", from);
	f->attached = true; /* so that it is detached when all end before the reply */
	http_ask(f->http, "attach", a, attached, f);
}

struct http_follow *http_follow_from(struct http *h, const char *name, int64_t seq, const struct http_follower *who,
				     void *owner)
{
	struct http_follow *w = follow_at(feed_of(h, name), seq, who, owner);

	if (w)
		attach(w->feed);
	return w;
}

/*
 * While an attachment moves back, events of its old place may still come: only the one that is next counts. Where the
 * daemon has lost events, libsink says so by one of its own, and goes on behind its number.
 */
static void deliver(struct http_feed *f, const struct sink_reply *ev)
{
	int64_t seq = sink_int(ev, "seq", 0);
	const char *code = sink_str(ev, "code", NULL);
	const bool lost = code && strcmp(code, "egone") == 0;
	struct http_follow *w;

	f->walking++;
	TAILQ_FOREACH(w, &f->follows, link)
	{
		if (w->ended || (seq != w->next && !lost))
			continue;
		w->next = seq + 1;
		w->who->event(w->owner, ev);
	}
	f->walking--;
}

void http_feed_event(struct http *h, const struct sink_reply *ev)
{
	const char *name = sink_str(ev, "conversation", NULL), *kind = sink_str(ev, "ev", NULL), *to, *text;
	struct http_feed *f = name ? feed_named(h, name) : NULL;
	int code = sink_reply_error(ev, &text);

	if (!kind)
		return;
	if (code) { /* the attachment has ended by itself */
		if (f) {
			f->attached = false;
			lose(f, code, text);
		}
		return;
	}
	if (!f) { /* whoever asked for it has gone meanwhile */
		if (name)
			sink_detach(h->sink, name);
		return;
	}
	to = strcmp(kind, "renamed") == 0 ? sink_str(ev, "to", NULL) : NULL;
	if (to && strlen(to) < sizeof(f->name))
		memcpy(f->name, to, strlen(to) + 1);
	deliver(f, ev);
	if (strcmp(kind, "removed") == 0) {
		f->attached = false;
		lose(f, SINK_ENOENT, "The conversation was removed.");
		return;
	}
	tidy(f);
}

static struct http_feed *followed(struct http *h)
{
	struct http_feed *f;
	struct http_follow *w;

	TAILQ_FOREACH(f, &h->feeds, link)
	TAILQ_FOREACH(w, &f->follows, link)
	if (!w->ended)
		return f;
	return NULL;
}

void http_feed_end(struct http *h, int code, const char *text)
{
	struct http_feed *f;

	TAILQ_FOREACH(f, &h->feeds, link)
	f->attached = false;
	while ((f = followed(h)))
		lose(f, code, text);
}
