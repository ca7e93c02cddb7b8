/* The memory and the limits of a run, and how it ends when something is wrong. */
#include "jinja_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct jinja_block {
	struct jinja_block *next;
};

/* What a block is at least; the first ones are small, since most runs need little. */
enum { BLOCK = 16 << 10, ALIGN = 16 };

/* As many bytes are worth a step. */
enum { STEP_BYTES = 32 };

void jinja_fail(struct jinja_run *r, int code, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_set(r->err, code, "Chat template, line %d: %s", r->line, text);
	longjmp(r->out, code);
}

void jinja_steps(struct jinja_run *r, size_t count)
{
	if (count > r->steps_most - r->steps)
		jinja_fail(r, SINK_EBUSY, "It takes more than %zu steps.", r->steps_most);
	r->steps += count;
}

static void new_block(struct jinja_run *r, size_t bytes)
{
	size_t size = bytes + ALIGN > BLOCK ? bytes + ALIGN : BLOCK;
	struct jinja_block *b;

	if (size > r->bytes_most - r->bytes)
		jinja_fail(r, SINK_EBUSY, "It takes more than %zu bytes of memory.", r->bytes_most);
	b = malloc(size);
	if (!b)
		jinja_fail(r, SINK_ENOMEM, "There is no memory left.");
	r->bytes += size;
	b->next = r->blocks;
	r->blocks = b;
	r->free_at = (char *)b + ALIGN;
	r->free_end = (char *)b + size;
}

void *jinja_take(struct jinja_run *r, size_t bytes)
{
	char *at;

	if (bytes > r->bytes_most)
		jinja_fail(r, SINK_EBUSY, "It takes more than %zu bytes of memory.", r->bytes_most);
	bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
	jinja_steps(r, 1 + bytes / STEP_BYTES);
	if (bytes > (size_t)(r->free_end - r->free_at))
		new_block(r, bytes);
	at = r->free_at;
	r->free_at += bytes;
	return memset(at, 0, bytes);
}

void jinja_down(struct jinja_run *r)
{
	if (++r->depth > JINJA_DEPTH_MOST)
		jinja_fail(r, SINK_EBUSY, "It is nested more than %d levels deep.", JINJA_DEPTH_MOST);
}

void jinja_up(struct jinja_run *r)
{
	r->depth--;
}

void jinja_run_release(struct jinja_run *r)
{
	while (r->blocks) {
		struct jinja_block *next = r->blocks->next;

		free(r->blocks);
		r->blocks = next;
	}
	r->free_at = r->free_end = NULL;
}
