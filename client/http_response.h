/*
 * The form of a response: the object, and the events of its stream. Their sequence numbers follow from the events of
 * the conversation alone, so a stream that is taken up again later, even from another gateway, counts as the first
 * one did.
 */
#ifndef CLIENT_HTTP_RESPONSE_H
#define CLIENT_HTTP_RESPONSE_H

#include "buf.h"
#include "http_error.h"
#include "http_id.h"
#include "http_request.h"

struct http_response {
	struct http *http;
	struct http_request *request; /* NULL: nobody is told */
	struct http_response_id id;
	char text_id[HTTP_RESPONSE_MOST];
	json_t *settings; /* fields of the request that are told again */
	bool background;

	bool streams;
	int64_t sequence; /* of the next event */
	int64_t after;	  /* those up to here are not wanted */

	struct buf text;
	const char *status; /* "queued", "in_progress", "completed", "incomplete", "cancelled", "failed" */
	bool usage;
	int64_t prompt, cached, generated;
	char error[320];
};

struct http_response *http_response_new(struct http *h, struct http_request *q);
void http_response_free(struct http_response *r); /* NULL is fine */

json_t *http_response_object(const struct http_response *r);

/* The stream: its beginning, a piece of text, its end by the status. */
void http_response_begin(struct http_response *r);
void http_response_text(struct http_response *r, const char *text, size_t len);
/* `finish` as the protocol has it; e: why it failed. Then the stream, or the request that waits, ends. */
void http_response_end(struct http_response *r, const char *finish, const struct http_error *e);

#endif
