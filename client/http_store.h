/*
 * The gateway's own conversations in the daemon: found again when it starts, bounded in number, removed. And the
 * reading of any conversation's messages into a chain of hashes.
 */
#ifndef CLIENT_HTTP_STORE_H
#define CLIENT_HTTP_STORE_H

#include "http.h"

/* Once a daemon is there: asks for what earlier gateways have left. */
void http_store_load(struct http *h);

/* Removes those that are too many. */
void http_store_trim(struct http *h);
/* Removes one; the chain is gone with it. */
void http_store_remove(struct http *h, struct http_chain *c);

/*
 * Reads a conversation's messages into a new chain of `into`, which begins with `seed` (NULL: with what its system
 * message is). `done` is told how it went, with the chain when code is 0, and `system`, the root that its own system
 * message has. http_ask_forget() of the owner ends it silently.
 */
struct http_reading {
	struct http *http;
	struct http_match *into;
	struct http_chain *chain;
	struct http_hash seed, system;
	bool seeded;
	char name[HTTP_NAME_MOST];
	int64_t next; /* the message to come */
	void (*done)(void *owner, int code, const char *text);
	void *owner;
};

/* `r` must live until `done`; whoever ends it before asks http_ask_forget(h, r). */
void http_store_read(struct http_reading *r);

#endif
