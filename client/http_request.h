/*
 * One request, as those see it who answer: its route and body on one side, an answer or a stream of events on the
 * other. Whoever works on it is told when its client has gone, and tells nothing any more after that.
 */
#ifndef CLIENT_HTTP_REQUEST_H
#define CLIENT_HTTP_REQUEST_H

#include <jansson.h>

#include "buf.h"
#include "http.h"
#include "http_error.h"
#include "http_route.h"

enum { HTTP_OUT_MOST = 1 << 20 }; /* bytes that a client may leave unread before it is given up */

struct http_request {
	TAILQ_ENTRY(http_request) link;
	struct http *http;
	enum http_path path;
	enum http_method method;
	char id[HTTP_ID_MOST];
	struct buf body;
	int64_t began; /* on http_clock_us() */

	/* Who works on it, and is to be told when the client has gone; NULL: nobody. */
	void *owner;
	void (*gone)(void *owner);

	/* What http_serve.c knows. */
	struct MHD_Connection *connection;
	struct MHD_Response *response;
	struct buf out;	 /* of a stream: what the client did not take yet */
	size_t dropped;	 /* bytes of a body that is too long */
	int64_t spoke;	 /* when something was last put into a stream, on http_clock() */
	unsigned status; /* 0: none yet */
	bool suspended, streams, ended, aborted, hung, refused, watched;
};

/* The value of a header; NULL: it was not sent. An argument of the query, likewise, as it was sent. */
const char *http_request_header(const struct http_request *q, const char *name);
const char *http_request_query(const struct http_request *q, const char *name);

/* Adds a header to the answer that is to come; before the answer or stream begins. */
void http_request_mark(struct http_request *q, const char *name, const char *value);

/* The whole answer. `body` is given away; NULL is an error of memory. It ends the request: `owner` is forgotten. */
void http_request_answer(struct http_request *q, unsigned status, json_t *body);
void http_request_text(struct http_request *q, const char *type, const char *text, size_t size);
void http_request_fail(struct http_request *q, const struct http_error *e);

/* A stream of server-sent events; `event` may be NULL, `data` is given away. */
void http_request_stream(struct http_request *q);
void http_request_event(struct http_request *q, const char *event, json_t *data);
void http_request_raw(struct http_request *q, const char *line); /* a line and the empty one behind it */
void http_request_end(struct http_request *q);

#endif
