/*
 * Cursors on the client's side. The cursor moves when an event arrives, not when it is taken: what is queued stays
 * queued across a reconnect, and the daemon is asked only for what never came.
 */
#include "cursor.h"

#include <stdlib.h>
#include <string.h>

void cursor_all_init(struct cursors *all)
{
	memset(all, 0, sizeof(*all));
	reply_init(&all->events);
	reply_init(&all->strays);
}

void cursor_all_release(struct cursors *all)
{
	reply_clear(&all->events);
	reply_clear(&all->strays);
	while (all->list)
		cursor_end(all, all->list, false);
}

struct cursor *cursor_named(const struct cursors *all, const char *name)
{
	struct cursor *c = all->list;

	while (c && strcmp(c->name, name) != 0)
		c = c->next;
	return c;
}

struct cursor *cursor_of(const struct cursors *all, uint64_t id)
{
	struct cursor *c = all->list;

	while (c && c->id != id)
		c = c->next;
	return c;
}

struct cursor *cursor_awaiting(const struct cursors *all, uint64_t request)
{
	struct cursor *c = all->list;

	while (c && c->request != request)
		c = c->next;
	return c;
}

struct cursor *cursor_numbered(const struct cursors *all, int64_t number)
{
	struct cursor *c = all->list;

	while (c && c->number != number)
		c = c->next;
	return c;
}

void cursor_end(struct cursors *all, struct cursor *c, bool drop)
{
	struct cursor **at = &all->list;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (drop)
		reply_drop(&all->events, c->id);
	free(c->name);
	free(c);
}

/* Strays that turn out to be the first events of a new attachment. Anything out of order comes again by itself. */
static void adopt_strays(struct cursors *all)
{
	struct reply_queue old = all->strays;
	struct sink_reply *r;

	if (!all->strays.first)
		return;
	reply_init(&all->strays);
	while ((r = reply_pop(&old)))
		cursor_event(all, r, (size_t)r->cost, true);
}

bool cursor_begin(struct cursors *all, const char *name, int64_t number, int64_t seq, int64_t credit)
{
	struct cursor *c = cursor_named(all, name);

	if (c)
		cursor_end(all, c, true);
	c = calloc(1, sizeof(*c));
	if (!c)
		return false;
	c->name = strdup(name);
	if (!c->name) {
		free(c);
		return false;
	}
	c->id = ++all->last_id;
	c->number = number;
	c->seq = seq;
	c->credit = credit;
	c->next = all->list;
	all->list = c;
	adopt_strays(all);
	return true;
}

/* An event of the library's own; seq 0: none. NULL without memory. */
static struct sink_reply *push_own(struct cursors *all, const struct cursor *c, const char *ev, int64_t seq, int code,
				   const char *text)
{
	struct sink_reply *r = NULL;
	const void *frame;
	size_t size;
	struct out *o;

	if (out_new(&o, NULL))
		return NULL;
	out_map(o, NULL);
	out_str(o, "ev", ev);
	out_str(o, "conversation", c->name);
	if (seq)
		out_int(o, "seq", seq);
	out_str(o, "code", err_name(code));
	out_str(o, "text", text);
	out_end(o);
	frame = out_data(o, &size);
	if (out_ok(o) && !reply_new(frame, size, &r, NULL)) {
		r->cursor = c->id;
		reply_push(&all->events, r);
	}
	out_free(o);
	return r;
}

void cursor_back(struct cursors *all, struct cursor *c, int64_t seq)
{
	c->ahead = false;
	c->seq = seq;
	push_own(all, c, "error", seq - 1, SINK_EGONE,
		 "The daemon has lost events of this conversation that were seen here.");
}

void cursor_over(struct cursors *all, struct cursor *c, const struct err *why)
{
	struct sink_reply *r = push_own(all, c, "ended", 0, why->code, why->text);

	if (r)
		r->error = *why;
	cursor_end(all, c, false);
}

void cursor_all_lost(struct cursors *all)
{
	for (struct cursor *c = all->list; c; c = c->next) {
		c->number = 0;
		c->request = 0;
		c->taken = 0;
	}
	for (struct sink_reply *r = all->events.first; r; r = r->next)
		r->cost = 0;
	reply_clear(&all->strays);
}

static bool is_event(const struct sink_reply *r, const char *name)
{
	const char *ev = sink_str(r, "ev", NULL);

	return ev && strcmp(ev, name) == 0;
}

/* Word that this reader was too slow. It stands at the seq of the event that is gone, and no event follows it. */
static bool is_too_slow(const struct sink_reply *r)
{
	const char *code = sink_str(r, "code", NULL);

	return is_event(r, "error") && code && err_code(code) == SINK_EGONE;
}

static void give_up(struct cursors *all, struct cursor *c, struct sink_reply *r)
{
	const char *text = sink_str(r, "text", NULL);
	struct err why;

	err_set(&why, SINK_EGONE, "%s", text ? text : "The next event is no longer kept.");
	sink_reply_free(r);
	cursor_over(all, c, &why);
}

/* What the event means for the attachment itself. */
static void move_on(struct cursors *all, struct cursor *c, const struct sink_reply *r)
{
	const char *to = sink_str(r, "to", NULL);

	c->seq++;
	if (is_event(r, "removed")) {
		cursor_end(all, c, false);
	} else if (is_event(r, "renamed") && to) {
		char *name = strdup(to);

		if (!name)
			return; /* the next attach to the old name will say that there is none */
		free(c->name);
		c->name = name;
	}
}

struct cursor *cursor_event(struct cursors *all, struct sink_reply *r, size_t size, bool stray)
{
	const char *name = sink_str(r, "conversation", NULL);
	struct cursor *c = name ? cursor_named(all, name) : NULL;
	int64_t seq = sink_int(r, "seq", -1);

	r->cost = (int64_t)size;
	if (c && is_too_slow(r)) {
		give_up(all, c, r);
		return NULL;
	}
	if (c && seq == c->seq) {
		r->cursor = c->id;
		reply_push(&all->events, r);
		move_on(all, c, r);
		return NULL;
	}
	if (!name) {
		r->cost = 0; /* of no log, such as `bye` */
		reply_push(&all->events, r);
		return NULL;
	}
	if (!c && stray) {
		reply_push(&all->strays, r);
		return NULL;
	}
	sink_reply_free(r);
	return c && seq > c->seq && !c->request ? c : NULL;
}

void cursor_forget_strays(struct cursors *all)
{
	reply_clear(&all->strays);
}
