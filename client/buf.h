/*
 * Bytes that grow. What was added is always followed by a NUL that is not counted, so that text can be used as a
 * string. Running out of memory is remembered in `failed`, and later additions do nothing: the user of the bytes looks
 * once.
 */
#ifndef CLIENT_BUF_H
#define CLIENT_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data; /* NULL while nothing was ever added; see buf_text() */
	size_t size, room;
	bool failed;
};

void buf_release(struct buf *b);
void buf_clear(struct buf *b); /* empty again, memory kept */
void buf_add(struct buf *b, const void *data, size_t size);
void buf_adds(struct buf *b, const char *text);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_cut(struct buf *b, size_t size);  /* keeps the first `size` bytes at most */
void buf_drop(struct buf *b, size_t size); /* drops the first `size` bytes */
const char *buf_text(const struct buf *b); /* never NULL */

/* Reads a descriptor to its end, or until the buffer holds more than `most` bytes. 0 or errno. */
int buf_read(struct buf *b, int fd, size_t most);

/* The offset of the first byte that is no valid UTF-8; `size` when all are. */
size_t buf_utf8(const char *data, size_t size);

#endif
