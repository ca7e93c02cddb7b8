/*
 * Replies and events as libsink's callers hold them, and the arguments of a request. Inside the library only; what
 * callers may do with them is in sink.h.
 */
#ifndef SINK_REPLY_H
#define SINK_REPLY_H

#include "error.h"
#include "msg.h"
#include "sink.h"

/* One received message, or bad news: a reply that never came. */
struct sink_reply {
	struct msg *msg;	 /* NULL in bad news */
	const struct val *top;	 /* the map that paths start from: `ok` of a reply, the whole of an event */
	struct err error;	 /* of bad news, of a reply that is an error, of `ended`; else code 0 */
	struct sink_reply *next; /* in a queue */
	uint64_t cursor;	 /* the attachment that an event belongs to; 0 without one */
	int64_t cost;		 /* bytes of credit that come back when it is taken */
	int64_t request;	 /* the number of the request that was only begun; 0 of an event */
};

/* This thread's last error that belongs to no connection: what sink_error(NULL) tells. */
struct err *err_alone(void);

/* Decodes a frame. SINK_EFORMAT, SINK_ENOMEM. */
int reply_new(const void *frame, size_t size, struct sink_reply **ret, struct err *e);

/* Bad news. NULL without memory. */
struct sink_reply *reply_new_error(const struct err *why);

struct reply_queue {
	struct sink_reply *first, **end; /* `end` may point inside: a queue stays where it was initialized */
};

void reply_init(struct reply_queue *q);
void reply_clear(struct reply_queue *q);
void reply_push(struct reply_queue *q, struct sink_reply *r);
struct sink_reply *reply_pop(struct reply_queue *q);	 /* NULL when empty; the caller's */
void reply_drop(struct reply_queue *q, uint64_t cursor); /* frees the events of one attachment */

/* A request that is whole, and what the library must know of it. */
struct request {
	const void *frame; /* lives as long as its arguments */
	size_t size;
	bool repeat;   /* sent twice it is carried out once, so that it may be sent again after a loss */
	bool attaches; /* its reply may name an attachment, or where to attach */
	int64_t credit;
	int64_t detaches; /* the attachment that it ends; 0: none */
};

/*
 * Completes a request: `op`, `id` and, where the verb changes something and the caller gave none, a random `key`.
 * SINK_EINVAL for arguments that are no whole map, SINK_ENOMEM, SINK_EIO when the system gives no random number.
 */
int args_finish(struct sink_args *a, const char *op, uint64_t id, struct request *ret, struct err *e);

#endif
