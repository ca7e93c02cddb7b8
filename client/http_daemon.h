/*
 * The one connection to the daemon, and what was asked of it. All requests and events of all clients go over it; a
 * reply finds its asker by the request's number.
 */
#ifndef CLIENT_HTTP_DAEMON_H
#define CLIENT_HTTP_DAEMON_H

#include "http.h"

/* How long a request waits for a daemon that has gone, or does not answer. */
enum { HTTP_PATIENCE_MS = 20000 };

/*
 * Asks; `args` (may be NULL) is freed. `done` is called once, later: with code 0 and the reply, or with a negative code
 * and its sentence. NULL: nobody wants to know.
 */
void http_ask(struct http *h, const char *op, struct sink_args *args,
	      void (*done)(void *owner, const struct sink_reply *r, int code, const char *text), void *owner);
/* The same for a verb that may take as long as the model does. */
void http_ask_long(struct http *h, const char *op, struct sink_args *args,
		   void (*done)(void *owner, const struct sink_reply *r, int code, const char *text), void *owner);

/* What this owner has asked is carried out, and nobody is told. */
void http_ask_forget(struct http *h, const void *owner);

/*
 * Arguments with a conversation's name in them, or any of one string; NULL without memory, which http_ask() can bear.
 */
struct sink_args *http_ask_args(const char *key, const char *value);

bool http_daemon_connected(const struct http *h);

/* Takes what has come; opens the connection where there is none. True: there may be more. */
bool http_daemon_run(struct http *h);
int http_daemon_fd(const struct http *h); /* -1: there is no connection */
void http_daemon_close(struct http *h);

#endif
