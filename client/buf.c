/* Growing bytes: prompts, lines, files that are read whole. Owns its memory; doubles it, so that adding costs O(1). */
#include "buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void buf_release(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

void buf_clear(struct buf *b)
{
	buf_cut(b, 0);
}

/* Room for `more` bytes and a NUL. */
static bool make_room(struct buf *b, size_t more)
{
	size_t room = b->room ? b->room : 256;
	char *data;

	if (b->failed || more >= SIZE_MAX / 2 - b->size) {
		b->failed = true;
		return false;
	}
	while (room <= b->size + more)
		room *= 2;
	if (room == b->room)
		return true;
	data = realloc(b->data, room);
	if (!data) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->room = room;
	return true;
}

void buf_add(struct buf *b, const void *data, size_t size)
{
	if (!make_room(b, size))
		return;
	if (size)
		memcpy(b->data + b->size, data, size);
	b->size += size;
	b->data[b->size] = '\0';
}

void buf_adds(struct buf *b, const char *text)
{
	buf_add(b, text, strlen(text));
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list args, again;
	int need;

	va_start(args, fmt);
	va_copy(again, args);
	need = vsnprintf(NULL, 0, fmt, args);
	if (need >= 0 && make_room(b, (size_t)need)) {
		vsnprintf(b->data + b->size, (size_t)need + 1, fmt, again);
		b->size += (size_t)need;
	}
	va_end(again);
	va_end(args);
}

void buf_cut(struct buf *b, size_t size)
{
	if (size >= b->size)
		return;
	b->size = size;
	b->data[size] = '\0';
}

void buf_drop(struct buf *b, size_t size)
{
	if (size >= b->size) {
		buf_cut(b, 0);
		return;
	}
	memmove(b->data, b->data + size, b->size - size + 1);
	b->size -= size;
}

const char *buf_text(const struct buf *b)
{
	return b->data ? b->data : "";
}

int buf_read(struct buf *b, int fd, size_t most)
{
	while (b->size <= most) {
		ssize_t n;

		if (!make_room(b, 65536))
			return ENOMEM;
		n = read(fd, b->data + b->size, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		b->size += (size_t)n;
		b->data[b->size] = '\0';
		if (n == 0)
			break;
	}
	return 0;
}

/* Bytes of the character at p, 0 when it is none: no surrogates, no overlong forms, nothing above U+10FFFF. */
static size_t character(const unsigned char *p, size_t left)
{
	static const struct {
		unsigned char least, most, first, last;
		size_t size;
	} forms[] = {
		{ 0x00, 0x7f, 0x80, 0xbf, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
		if (*p < forms[f].least || *p > forms[f].most)
			continue;
		if (forms[f].size > left)
			return 0;
		for (size_t i = 1; i < forms[f].size; i++)
			if (p[i] < (i == 1 ? forms[f].first : 0x80) || p[i] > (i == 1 ? forms[f].last : 0xbf))
				return 0;
		return forms[f].size;
	}
	return 0;
}

size_t buf_utf8(const char *data, size_t size)
{
	size_t at = 0;

	while (at < size) {
		size_t n = character((const unsigned char *)data + at, size - at);

		if (!n)
			break;
		at += n;
	}
	return at;
}
