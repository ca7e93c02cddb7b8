/*
 * What the model held each token of an answer for, in the two forms that the API has for it. An event with several
 * tokens has an entry for each where it tells their bytes, which it does with the likeliest ones; else they are one.
 */
#ifndef CLIENT_HTTP_LOGPROB_H
#define CLIENT_HTTP_LOGPROB_H

#include <jansson.h>

#include "sink.h"

enum { HTTP_TOP_MOST = 20 }; /* alternatives that may be asked for */

/* Adds a `text` event to the `content` of a chat's logprobs, with `top` alternatives a token. */
void http_logprob_chat(json_t *content, const struct sink_reply *ev, size_t top);

/* The logprobs of a completion, still empty; and an event's added. *offset counts the characters before it. */
json_t *http_logprob_new(void);
void http_logprob_completion(json_t *logprobs, const struct sink_reply *ev, size_t top, size_t *offset);

#endif
