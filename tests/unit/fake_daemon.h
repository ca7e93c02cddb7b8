/*
 * A daemon with one conversation and no model, for tests of libsink: a ROUTER in a thread of its own. It speaks the
 * protocol from its page, keeps a log of events whose text is their number, and misbehaves when it is told to.
 */
#ifndef FAKE_DAEMON_H
#define FAKE_DAEMON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fake;

/* What the tests turn and read while the daemon runs. */
struct fake_knobs {
	atomic_int protocol;   /* that hello's reply names; 1 */
	atomic_int refuse;     /* a code of error.h that answers hello; 0 */
	atomic_bool silent;    /* answers nothing at all */
	atomic_bool early;     /* events go out before the reply that names the attachment */
	atomic_int last;       /* the log has events 1..last */
	atomic_int first;      /* the oldest kept one */
	atomic_int removed_at; /* the event with this seq is `removed`; 0: none */
	atomic_int renamed_at; /* the event with this seq is `renamed` to "lake"; later ones bear that name */
	atomic_int skip;       /* this event is lost on its way, once */
	atomic_int twice;      /* this event is sent twice, once */
	atomic_int padding;    /* bytes that each event has more */
	atomic_bool hang_up;   /* ends all connections and starts again; falls back to false when done */
	atomic_bool away;      /* while set, it does not come back after hanging up */
	atomic_bool garbage;   /* sends a frame that is no message to everybody, once */
	atomic_bool bye;       /* sends `bye` to everybody, once */
	atomic_bool stopping;  /* the next `list` is answered as while it ends: bye, ebusy, and it hangs up */
	atomic_bool done_once; /* a `say` that it dies on was carried out before */
	atomic_bool too_slow;  /* tells every reader that its next event is gone, once */

	atomic_int hellos, attaches, detaches, says, lists;
	atomic_int again;	   /* `say` whose key was known */
	atomic_llong last_key;	   /* of the latest `say`; 0 when it had none */
	atomic_long sent, granted; /* bytes of events, and of credit */
};

/* Starts at `endpoint`; fails the test when it cannot. */
struct fake *fake_start(const char *endpoint);
struct fake_knobs *fake_knobs(struct fake *f);
void fake_stop(struct fake *f);

/*
 * Verbs beyond those of the page: `echo` replies with the request itself as "request"; `never` is not answered, `later`
 * only when the next request comes, and then with an attachment numbered 99.
 */

/* The next request of this verb is not answered: the daemon hangs up instead, once. */
void fake_die_on(struct fake *f, const char *op);

#endif
