/*
 * The attachments of one client: which events belong to it, which come next, which were seen before. Pure: the requests
 * that keep an attachment going are sent by sink.c.
 *
 * An attachment has a cursor, the seq of the event that it wants next. An event before the cursor is a duplicate and is
 * dropped; one behind it shows a gap. Thus after any reconnect the reader's events go on without a gap or a duplicate.
 */
#ifndef SINK_CURSOR_H
#define SINK_CURSOR_H

#include "reply.h"

enum { CURSOR_CREDIT = 262144 }; /* bytes granted at attach when the caller does not say */

struct cursor {
	struct cursor *next;
	char *name;	  /* of the conversation; moves with `renamed` */
	uint64_t id;	  /* this attachment among all that the client ever had; from 1 */
	int64_t number;	  /* the daemon's; 0 while it has none for us */
	int64_t seq;	  /* of the event that it wants next */
	int64_t credit;	  /* bytes that may be under way */
	int64_t taken;	  /* bytes taken by the reader and not granted again yet */
	uint64_t request; /* the attach that is under way to come back; 0 when none is */
	bool ahead;	  /* of the log, which has lost events: to come back at its end */
};

struct cursors {
	struct cursor *list;
	uint64_t last_id;
	struct reply_queue events; /* for the reader, in order */
	struct reply_queue strays; /* of no attachment yet, while a call that may make one is under way */
};

void cursor_all_init(struct cursors *all);
void cursor_all_release(struct cursors *all);

struct cursor *cursor_named(const struct cursors *all, const char *name);
struct cursor *cursor_of(const struct cursors *all, uint64_t id);
struct cursor *cursor_awaiting(const struct cursors *all, uint64_t request);
struct cursor *cursor_numbered(const struct cursors *all, int64_t number);

/*
 * Begins an attachment that the daemon has granted: its first event will be `seq`. One to the same conversation is
 * replaced, its events that were not taken are dropped, and those among the strays are taken in. False without memory.
 */
bool cursor_begin(struct cursors *all, const char *name, int64_t number, int64_t seq, int64_t credit);

/*
 * Goes on at `seq`, before the cursor, because the daemon has lost the events that the reader saw there. It is told by
 * an error event with code egone, whose seq is that before the next one.
 */
void cursor_back(struct cursors *all, struct cursor *c, int64_t seq);

/* Ends an attachment by itself: the last event of it is the library's own, `ended`, which says why. */
void cursor_over(struct cursors *all, struct cursor *c, const struct err *why);

/* Ends an attachment. With `drop` its events that were not taken go as well. */
void cursor_end(struct cursors *all, struct cursor *c, bool drop);

/* The connection is gone: no attachment has a number now, and what waits in the queue costs no credit any more. */
void cursor_all_lost(struct cursors *all);

/*
 * Takes an event of `size` bytes in, or drops it. Returns the attachment when the event shows a gap in it, which is to
 * come back at its cursor; else NULL. With `stray` events of no attachment are kept aside.
 */
struct cursor *cursor_event(struct cursors *all, struct sink_reply *r, size_t size, bool stray);

void cursor_forget_strays(struct cursors *all);

#endif
