/*
 * Markdown as it streams: styles for a terminal, around text that stays as it is.
 *
 * Every byte comes out in its order, the marks too (dimmed), so that what is copied from a terminal is what was
 * written. A character is held back only while it may be a mark whose meaning hangs on the next one: the "**" before a
 * word, the "#" of a heading. However the text is cut into pieces, the screen looks the same.
 *
 * Understood are headings, rules, lists, quotes, fences, code spans, emphasis and links, line by line: what a line
 * opens ends with it, but for a fence.
 */
#ifndef CLIENT_MARKDOWN_H
#define CLIENT_MARKDOWN_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum { MARKDOWN_HELD = 16 };

/* All of it is the module's. Zeroed, it is at the beginning of a text. */
struct markdown {
	char held[MARKDOWN_HELD]; /* bytes whose style is not known yet */
	size_t count;
	unsigned now;	 /* the style that the terminal has */
	unsigned line;	 /* the style of this line: heading, quote, rule */
	unsigned inside; /* which emphasis is open */
	bool middle;	 /* of a line: its prefix is over */
	bool escaped, bracket, link;
	unsigned char before; /* the byte before this one in the line; 0: none */
	size_t ticks;	      /* of the code span that is open */
	size_t indent;	      /* of this line */
	/* The fence that is open: its mark, how often, how far it is indented, and where in it we are. */
	char fence;
	size_t fence_length, fence_indent;
	int fence_part;
};

/* Adds the text, and the styles that it means, to `b`; what is added ends unstyled. */
void markdown_add(struct markdown *m, const char *text, size_t len, struct buf *b);

/* Adds what is held back: nothing more comes for now. */
void markdown_flush(struct markdown *m, struct buf *b);

#endif
