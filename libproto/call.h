/*
 * The requests of one client that are under way: which were sent, which time limits they have, and which reply is
 * whose. Pure: sending and dispatching are sink.c's.
 *
 * A call keeps its frame until its reply is there, so that it can be sent again after a loss. One that somebody waits
 * for (sink_call()) keeps its reply as well; that of one that was only begun (sink_begin()) goes among the events.
 */
#ifndef SINK_CALL_H
#define SINK_CALL_H

#include "reply.h"

struct call {
	struct call *next; /* begun later */
	uint64_t id;
	char *op;
	struct sink_args *args; /* what the frame lives in */
	struct request req;
	int64_t deadline; /* INT64_MAX: none */
	bool waited;	  /* somebody waits for it in sink_call() */
	bool sent;
	struct sink_reply *reply; /* of one that is waited for, once it is there */
	struct sink_reply *news;  /* had before it may be needed: bad news that always can be told */
};

struct calls {
	struct call *first, **end;
};

void call_all_init(struct calls *all);
void call_all_release(struct calls *all);

/*
 * Adds a request that is not sent yet; `args` belongs to it on success. SINK_EINVAL for arguments that are no whole
 * map, SINK_ENOMEM, SINK_EIO.
 */
int call_new(struct calls *all, uint64_t id, const char *op, struct sink_args *args, struct call **ret, struct err *e);
void call_end(struct calls *all, struct call *c);

/* The call that is sent, not answered, and has this number. With 0 the only one of that kind, if it is the only one. */
struct call *call_of(const struct calls *all, uint64_t id);

/* Whether a reply is still to come that may name an attachment. */
bool call_attaching(const struct calls *all);

/* The first moment at which a call's time is over: of all calls, or of those alone that nobody waits for. */
int64_t call_deadline(const struct calls *all, bool waited);

#endif
