/*
 * What a request's body asks for: read once, checked, and put into the words of the protocol. Pure, and the first thing
 * that hostile bytes meet; tests/fuzz/fuzz_http.c feeds it.
 */
#ifndef CLIENT_HTTP_PLAN_H
#define CLIENT_HTTP_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "http_error.h"

enum { HTTP_PROMPTS_MOST = 16 };

/* A text with its length; it belongs to the plan. */
struct http_text {
	const char *at; /* NULL: not given */
	size_t len;
};

struct http_message {
	const char *role; /* "system", "user" or "assistant" */
	struct http_text text;
};

struct http_prompt {
	struct http_text text; /* at NULL: `tokens` are given */
	json_t *tokens;
};

struct http_plan {
	json_t *root;	  /* the body */
	json_t *made;	  /* an array of texts that were put together */
	json_t *sampling; /* the map of the protocol */
	bool stream, include_usage;
	bool logprobs;
	size_t top_logprobs;	  /* alternatives that are wanted with them */
	const char *conversation; /* the one that the body names */
	const char *hint;	  /* what the body has to tell conversations apart */

	/* Of a chat or a response. What stands in front as system messages is `system`, the rest are messages. */
	struct http_text system;
	struct http_message *message;
	size_t count;

	/* Of a response. */
	const char *previous; /* the id of the response that it follows */
	bool store, background;

	/* Of a completion. */
	struct http_prompt prompt[HTTP_PROMPTS_MOST];
	size_t prompts;
	struct http_text suffix;
	bool echo;
	bool warm; /* nothing is to be written: the prompt alone is read */
};

/* Each fills `p` from a body, or fills `e` and returns -1. http_plan_release() is due in both cases. */
int http_plan_chat(const char *body, size_t size, struct http_plan *p, struct http_error *e);
int http_plan_response(const char *body, size_t size, struct http_plan *p, struct http_error *e);
int http_plan_completion(const char *body, size_t size, struct http_plan *p, struct http_error *e);
int http_plan_infill(const char *body, size_t size, struct http_plan *p, struct http_error *e);
void http_plan_release(struct http_plan *p);

/*
 * Reading fields, for the files of this module. An absent field and a null are the same, and leave *ret alone; a value
 * of another type is an error that names the field.
 */
int http_plan_open(const char *body, size_t size, struct http_plan *p, struct http_error *e);
int http_plan_bool(const json_t *o, const char *key, bool *ret, struct http_error *e);
int http_plan_text(const json_t *o, const char *key, struct http_text *ret, struct http_error *e);
int http_plan_string(const json_t *o, const char *key, const char **ret, struct http_error *e);
int http_plan_sampling(struct http_plan *p, const char *const *most_keys, struct http_error *e);
int http_plan_format(struct http_plan *p, const json_t *format, const char *param, const json_t *inner,
		     struct http_error *e);
/* `messages` of a chat, or `input` of a response. */
int http_plan_messages(struct http_plan *p, const json_t *list, const char *param, struct http_error *e);

#endif
