/* Bearer keys: read from a file, one a line, and compared in a time that tells nothing. */
#ifndef CLIENT_HTTP_KEY_H
#define CLIENT_HTTP_KEY_H

#include <stdbool.h>
#include <stddef.h>

enum { HTTP_KEY_MOST = 256, HTTP_KEYS_MOST = 256 };

struct http_keys {
	size_t count;
	char (*key)[HTTP_KEY_MOST]; /* filled up with NUL */
};

/*
 * Reads a file in place of what there is; empty lines and those that begin with # do not count. False with a
 * sentence, and the keys that were there stay, when it cannot be read, has no key, or one that is too long.
 */
bool http_key_load(struct http_keys *k, const char *path, char *cause, size_t size);
void http_key_release(struct http_keys *k);

/* Whether the value of a header Authorization bears one of the keys. NULL: there was none. */
bool http_key_fits(const struct http_keys *k, const char *header);

#endif
