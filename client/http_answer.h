/*
 * One answer of the model, from the requests that ask for it to its end: what a chat, a completion and a response
 * have in common. Their own forms are functions that are told what happens.
 *
 * Requests to one conversation go out one behind the other without waiting; the daemon carries them out in order. The
 * first failure ends it all. A client that goes away stops the answer, unless it named the conversation.
 */
#ifndef CLIENT_HTTP_ANSWER_H
#define CLIENT_HTTP_ANSWER_H

#include "buf.h"
#include "http_daemon.h"
#include "http_error.h"
#include "http_feed.h"
#include "http_plan.h"
#include "http_request.h"

struct http_answer;

struct http_form {
	void (*begun)(
		struct http_answer *a); /* it will be there: `message`, `seq` and `cached` are known; may be NULL */
	void (*text)(struct http_answer *a, const struct sink_reply *ev); /* a piece; may be NULL */
	/* It has ended, e being NULL, or failed. Nothing else comes: the answer's owner may go. */
	void (*ended)(struct http_answer *a, const struct http_error *e);
};

struct http_answer {
	struct http *http;
	struct http_request *request; /* NULL: the client has gone */
	const struct http_form *form;
	int64_t asked; /* when the client asked, on http_clock_us() */

	char name[HTTP_NAME_MOST];
	struct http_chain *chain; /* of the gateway's own conversations, kept for later; NULL: it is none */
	size_t known;		  /* messages of the chain that were there before */
	bool temporary;		  /* it is removed in the end */
	bool goes_on;		  /* also when the client has gone */
	bool reused;		  /* the conversation is an old one */
	bool broken;		  /* more than one message was to be said, so what stands there is not sure */
	bool expected, leaving;
	void (*then)(struct http_answer *a);

	struct http_follow *follow; /* NULL before it has begun */
	int64_t message, seq;
	int64_t cached; /* tokens that were there before this request; -1: not known yet */
	bool answering;
	int64_t last; /* when the last text came; 0: none yet */
	struct buf text;
	struct http_error error; /* what an `error` event said */

	/* Once it has ended. */
	char finish[16]; /* of the protocol */
	int64_t prompt, generated;
};

/* Begins one for a request, in this conversation. */
void http_answer_init(struct http_answer *a, struct http_request *q, const struct http_form *form, const char *name);
void http_answer_release(struct http_answer *a);

/* The next request; one that is refused with `bear` (0: none) is no failure. */
void http_answer_ask(struct http_answer *a, const char *op, struct sink_args *args, int bear);
/*
 * One that must be done before what follows, which is for `then` to ask: a fork waits for others, and is not there
 * yet.
 */
void http_answer_ask_then(struct http_answer *a, const char *op, struct sink_args *args,
			  void (*then)(struct http_answer *a));
/* The one that asks for the answer; the last. `plan`: its sampling is sent along. */
void http_answer_ask_last(struct http_answer *a, const char *op, struct sink_args *args, const struct http_plan *plan);

/* The client has gone. True: it is over at once, and the owner may go; false: `ended` will come. */
bool http_answer_leave(struct http_answer *a);

/* The finish as the API calls it: "stop" or "length". */
const char *http_answer_finish(const struct http_answer *a);
/* {prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details: {cached_tokens}} */
json_t *http_answer_usage(const struct http_answer *a);

/* Adds a plan's map `sampling` to a request. False: it cannot be said in the protocol. */
bool http_answer_sampling(struct sink_args *args, const struct http_plan *plan);

#endif
