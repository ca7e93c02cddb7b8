/*
 * Messages of a chat or a response, and where they are said. A conversation that the client names is the first choice;
 * else the stored one that has the most of the history, forked where they part; else a new one.
 */
#ifndef CLIENT_HTTP_SAY_H
#define CLIENT_HTTP_SAY_H

#include "http_answer.h"
#include "http_response.h"
#include "http_store.h"

struct http_say {
	struct http_answer answer; /* the first, so that one is the other */
	struct http_plan plan;
	struct http_hash root, *want; /* the numbers of the system prompt and the messages */

	/* The conversation that the client names. */
	char named[HTTP_NAME_MOST]; /* "": none */
	bool explicit;		    /* by its name, and not by something that it has besides */
	struct http_match match;    /* of it alone */
	struct http_reading reading;
	int64_t messages;

	char source[HTTP_NAME_MOST]; /* what it was forked from */
	bool decided, retried;
	size_t known;	   /* messages that the fork has already */
	bool other_system; /* the response it follows was under other instructions */

	/* Of the form. */
	char id[HTTP_RESPONSE_MOST];
	int64_t created;
	json_t *logprobs;	       /* entries so far */
	struct http_response_id after; /* of a response: the one that it follows */
	bool follows;
	struct http_response *response; /* its form */
};

/*
 * Takes a request's body. NULL: the request has been answered with an error. `parse` is one of http_plan.h; from here
 * on the request belongs to the say.
 */
struct http_say *http_say_new(struct http_request *q, const struct http_form *form,
			      int (*parse)(const char *body, size_t size, struct http_plan *p, struct http_error *e));
void http_say_free(struct http_say *s);

/* Chooses, and says. What comes of it is told to the form. */
void http_say_start(struct http_say *s);

/* Behind a failure that may come from a conversation that somebody has removed: starts anew, once. */
bool http_say_again(struct http_say *s, const struct http_error *e);

/* Seconds since 1970. */
int64_t http_say_time(void);

#endif
