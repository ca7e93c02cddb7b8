/*
 * One line to the daemon that comes and goes: sockets, time, and nothing of the protocol's meaning.
 *
 * Every attempt to connect gets a socket of its own, so that nothing queued for a lost connection ever reaches the next
 * one. When the line is lost, link_next() says so once and later, after a growing pause, tries again by itself.
 */
#ifndef SINK_LINK_H
#define SINK_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* The longest frame that is taken from a daemon, in bytes: a reply may be longer than a request. */
enum { LINK_FRAME_MOST = 64 << 20 };

struct link;

/* Milliseconds of a clock that only goes forward; and the moment `timeout_ms` from now, INT64_MAX for -1. */
int64_t link_now(void);
int64_t link_deadline(int timeout_ms);

/* Sets up without connecting: the first link_next() does that. SINK_ENOMEM, SINK_EIO. The caller frees *ret. */
int link_new(const char *endpoint, struct link **ret, struct err *e);
void link_free(struct link *l); /* NULL is fine; nothing that is unsent is waited for */

enum link_news {
	LINK_QUIET,   /* the deadline passed, or a signal came */
	LINK_STARTED, /* a new connection is under way: what is sent from now on travels on it */
	LINK_FRAME,   /* *frame and *size, valid until the next call */
	LINK_LOST,    /* the connection ended, or could not be made: see link_reason() */
};

/* The next thing that happens, waiting until `deadline` for it (0: not at all). */
enum link_news link_next(struct link *l, int64_t deadline, const void **frame, size_t *size);

/* Why the last connection was lost or never made: SINK_ECONN and a sentence. */
const struct err *link_reason(const struct link *l);

/* Sends a frame on the present connection; it is copied. SINK_ECONN when there is none, SINK_ENOMEM. */
int link_send(struct link *l, const void *frame, size_t size, struct err *e);

void link_settled(struct link *l); /* the daemon has accepted us: the pauses start small again */
void link_drop(struct link *l);	   /* ends the present connection; a new one is tried after the pause */

/*
 * A descriptor for poll(2) that is readable while link_flag() is set and whenever link_next() would have news after
 * having said LINK_QUIET. The link's own. It is readable from the moment of link_alarm() on, too (INT64_MAX: never).
 */
int link_fd(const struct link *l);
void link_flag(struct link *l, bool readable);
void link_alarm(struct link *l, int64_t at);

#endif
