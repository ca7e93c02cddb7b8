/*
 * Waiting: for events of the daemon, for a person's keys, for signals and for a time limit, in one place.
 *
 * While a follow is open, SIGINT, SIGTERM, SIGHUP and SIGWINCH do not interrupt the process: they are handed out
 * between two events, so that no answer is left half written. A connection that is lost is waited for, since the daemon
 * may be restarting and libsink comes back at the cursor: without a word for FOLLOW_SILENCE_MS, which is longer than a
 * restart takes, and no longer than FOLLOW_PATIENCE_MS. A daemon that was stopped keeps its connections and says
 * nothing, as one does that has nothing to say; the status segment tells these two apart, and it is waited for without
 * an end.
 */
#ifndef CLIENT_FOLLOW_H
#define CLIENT_FOLLOW_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "sink.h"

enum { FOLLOW_SILENCE_MS = 2000, FOLLOW_PATIENCE_MS = 30000 };

enum follow_what {
	FOLLOW_EVENT,	/* *ev is an event; the caller frees it */
	FOLLOW_INPUT,	/* the input descriptor can be read */
	FOLLOW_SIGNAL,	/* *signal came */
	FOLLOW_AWAY,	/* there has been no daemon for a while; said once, then waited for on */
	FOLLOW_TIMEOUT, /* the time given to follow_open() is over */
	FOLLOW_LOST,	/* the daemon is gone for good, or the attachment has ended: follow_lost() says why */
};

struct follow {
	struct sink *sink;
	const char *endpoint;
	int signals;		/* signalfd; -1 when the system gave none */
	sigset_t before;	/* the process's mask, put back at the end */
	int64_t deadline;	/* milliseconds of the monotonic clock; -1: none */
	int64_t lost;		/* since when there is no connection; -1: there is one */
	bool told;		/* FOLLOW_AWAY was said of it */
	int64_t heard;		/* when something last came, or it was looked whether the daemon shows life */
	bool silent;		/* FOLLOW_AWAY was said of a daemon that shows none */
	struct sink_reply *end; /* the event that ended the attachment; NULL: none has */
};

/* `endpoint`, where the daemon is, must outlive the follow; `seconds` is the time limit, 0 for none. */
void follow_open(struct follow *f, struct sink *s, const char *endpoint, double seconds);
void follow_close(struct follow *f);

/* Waits for the next of these. `input` is a descriptor to read, -1 for none. */
enum follow_what follow_next(struct follow *f, int input, struct sink_reply **ev, int *sig);

/* Says why FOLLOW_LOST came and returns the exit code. */
int follow_lost(const struct follow *f);

/* Milliseconds of the monotonic clock. */
int64_t follow_clock(void);

#endif
