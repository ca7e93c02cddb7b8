/*
 * The names that the gateway makes. A response's id holds all that is needed to find it again, so that it outlives the
 * gateway: which message of which conversation, from which event on. Pure.
 */
#ifndef CLIENT_HTTP_ID_H
#define CLIENT_HTTP_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_NAME_MOST = 65, HTTP_RESPONSE_MOST = 256 }; /* with the NUL */

/*
 * Conversations of the gateway's own begin so; the letter behind says whether a client gave the system prompt ('s') or
 * the model's own stands there ('d').
 */
#define HTTP_HIDDEN "http-"

/* A new name of that kind, random. */
void http_id_hidden(bool system, char ret[HTTP_NAME_MOST]);
bool http_id_is_hidden(const char *name);
bool http_id_has_system(const char *name); /* of a hidden name: the client gave it */

/* `prefix` and 24 random digits, such as "chatcmpl-…". */
void http_id_random(const char *prefix, char *ret, size_t size);

struct http_response_id {
	char name[HTTP_NAME_MOST]; /* the conversation */
	bool stored;		   /* it may be asked for later */
	int64_t message;	   /* the answer's number */
	int64_t seq;		   /* the event of the message that it answers */
	int64_t created;	   /* seconds */
	int64_t cached;		   /* tokens that were there before anything was said */
};

void http_id_write(const struct http_response_id *id, char ret[HTTP_RESPONSE_MOST]);
bool http_id_read(const char *text, struct http_response_id *ret);

/*
 * A conversation's name from what a client calls its chat: characters that no name may have become "-"; false when
 * nothing is left of it.
 */
bool http_id_name(const char *text, char ret[HTTP_NAME_MOST]);

#endif
