/*
 * Which stored conversation a history belongs to. A client that resends all of its history says in other words "that
 * conversation, up to this message": each message of a stored one has a number that stands for it and all before it,
 * and the longest common beginning wins. Texts compare without the blanks around them, since clients trim what they
 * show. Only conversations of the gateway's own are here.
 */
#ifndef CLIENT_HTTP_MATCH_H
#define CLIENT_HTTP_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "http_id.h"

struct http_hash {
	uint64_t low, high;
};

struct http_chain {
	TAILQ_ENTRY(http_chain) link;
	char name[HTTP_NAME_MOST];
	struct http_hash root;	/* of the system prompt */
	struct http_hash *hash; /* of its messages, without the system's */
	size_t count, room;
	int64_t first; /* the number of the first of them in the conversation */
	bool made;     /* the daemon has it; before that nothing is found here */
	bool busy;     /* a request writes into it */
	unsigned held; /* so many are about to fork it */
};

struct http_match {
	TAILQ_HEAD(http_chains, http_chain) chains; /* last used first */
};

void http_match_init(struct http_match *m);
void http_match_release(struct http_match *m);

/* The number of a system prompt; NULL: the client gave none. */
struct http_hash http_match_root(const char *system, size_t len);
/* That of a message which follows those of `before`. */
struct http_hash http_match_next(struct http_hash before, const char *role, const char *text, size_t len);

/*
 * The chain that has the most of `want` in common, at most `count`; at least the root. *common is how many. Of equals
 * one that ends there and is idle, so that nothing need be forked. NULL: none begins so.
 */
struct http_chain *http_match_best(struct http_match *m, struct http_hash root, const struct http_hash *want,
				   size_t count, size_t *common);

/* A new chain, the last used one; NULL without memory. `like` (may be NULL): its root and first `count` messages. */
struct http_chain *http_match_add(struct http_match *m, const char *name, struct http_hash root,
				  const struct http_chain *like, size_t count);
/* Appends a message; {0, 0} is one that never matches. Without memory the chain is cut to what is sure. */
void http_match_push(struct http_chain *c, struct http_hash h);
void http_match_cut(struct http_chain *c, size_t count);
void http_match_use(struct http_match *m, struct http_chain *c); /* it was used last */
void http_match_drop(struct http_match *m, struct http_chain *c);
struct http_chain *http_match_named(struct http_match *m, const char *name);

/* The least recently used idle chain when there are more than `most` idle ones; NULL: nothing is to go. */
struct http_chain *http_match_oldest(struct http_match *m, size_t most);

#endif
