/*
 * Who follows which conversation. The gateway has one attachment to each, however many of its clients follow it, and
 * each of these a place of its own: when somebody wants what lies before the others' places, the attachment moves
 * back, and the others pass over what they have had.
 */
#ifndef CLIENT_HTTP_FEED_H
#define CLIENT_HTTP_FEED_H

#include "http.h"

struct http_follow;

/* Both may end the follow; nothing else of it comes after `lost`, which ended it already. */
struct http_follower {
	void (*event)(void *owner, const struct sink_reply *ev);
	void (*lost)(void *owner, int code, const char *text);
};

/*
 * Before a say that attaches: the attachment is not given up meanwhile. False without memory. Each is followed by one
 * http_feed_expected(), when the reply has come, after the follow began.
 */
bool http_feed_expect(struct http *h, const char *name);
void http_feed_expected(struct http *h, const char *name);

/* Follows from event `seq` on, where a say has just attached. NULL without memory. */
struct http_follow *http_follow_on(struct http *h, const char *name, int64_t seq, const struct http_follower *f,
				   void *owner);
/* Follows from event `seq` on, whatever is attached; a refusal comes as `lost`. */
struct http_follow *http_follow_from(struct http *h, const char *name, int64_t seq, const struct http_follower *f,
				     void *owner);
void http_unfollow(struct http_follow *f); /* NULL is fine */

void http_feed_event(struct http *h, const struct sink_reply *ev);
void http_feed_end(struct http *h, int code, const char *text); /* of all */

#endif
