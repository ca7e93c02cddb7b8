/*
 * Cutting JSON: sink_json() gives a whole reply as one line, and scripts want one object a line; an export that is read
 * back is cut the same way. The text is trusted to be valid, and json_valid() tells whether one of a file is; a damaged
 * one gives wrong pieces, never a read outside of it.
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

/* Whether all of `text` is one value of JSON in UTF-8, nested no deeper than 64. */
bool json_valid(struct json text);

/* The value under `key` of the outermost object in `text`; false when there is none. */
bool json_member(struct json text, const char *key, struct json *ret);

/* Element after element of an array: *at starts as 0 and moves on; false at its end. */
bool json_next(struct json array, size_t *at, struct json *ret);

/* Adds what a JSON string says, its escapes resolved; half a surrogate pair is U+FFFD. False when `v` is no string. */
bool json_unquote(struct json v, struct buf *b);

/* Adds `text` as a JSON string with its quotes. Invalid UTF-8 is the caller's to avoid. */
void json_quote(struct buf *b, const char *text);

#endif
