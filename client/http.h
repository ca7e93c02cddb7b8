/*
 * The gateway `sinkd-http` as a whole: what its one thread owns. A turn of the loop takes what the daemon has sent,
 * looks after clients that have gone, and lets libmicrohttpd read and write; nothing in it waits.
 */
#ifndef CLIENT_HTTP_H
#define CLIENT_HTTP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "http_conf.h"
#include "http_count.h"
#include "http_key.h"
#include "http_match.h"
#include "sink.h"

struct http_call;
struct http_feed;
struct http_request;
struct http_server;
struct http_store;

struct http {
	struct http_conf conf;
	struct http_keys keys;
	struct http_count count;

	/* http_daemon.c */
	struct sink *sink; /* NULL: no daemon was ever reached */
	char endpoint[256];
	int64_t next_open; /* when to try again, on http_clock() */
	TAILQ_HEAD(, http_call) calls;
	TAILQ_HEAD(, http_feed) feeds;
	char model[128]; /* its id for clients */
	int64_t began;	 /* seconds since 1970 */

	struct http_match match;

	/* http_serve.c */
	struct http_server *server;
	TAILQ_HEAD(, http_request) requests;
	bool stopping;
};

/* Milliseconds and microseconds of a clock that never goes back. */
int64_t http_clock(void);
int64_t http_clock_us(void);

#endif
