/*
 * Cutting JSON that libsink wrote: sink_json() gives a whole reply as one line, and scripts want one object a line. The
 * text is trusted to be valid; a damaged one gives wrong pieces, never a read outside of it.
 */
#ifndef CLIENT_JSON_H
#define CLIENT_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

struct json {
	const char *text;
	size_t size;
};

/* The value under `key` of the outermost object in `text`; false when there is none. */
bool json_member(struct json text, const char *key, struct json *ret);

/* Element after element of an array: *at starts as 0 and moves on; false at its end. */
bool json_next(struct json array, size_t *at, struct json *ret);

/* Adds `text` as a JSON string with its quotes. Invalid UTF-8 is the caller's to avoid. */
void json_quote(struct buf *b, const char *text);

#endif
