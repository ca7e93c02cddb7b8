/*
 * What `sink top` shows, as lines for a terminal or a file. Pure: a look at the daemon (sink_board()) goes in, text
 * comes out.
 */
#ifndef CLIENT_TOP_H
#define CLIENT_TOP_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "sink.h"
#include "target.h"

enum top_order { TOP_BY_ACTIVITY, TOP_BY_TOKENS, TOP_BY_MEMORY, TOP_BY_NAME, TOP_ORDERS };

/* A conversation of a look; the texts are the look's. */
struct top_row {
	const char *name, *state, *tier;
	int64_t clients, tokens, window, evicted, cache_bytes, place;
	double read_per_s, written_per_s, used;
};

struct top_view {
	const struct sink_reply *look; /* NULL: there is no daemon (any more), and `why` says so */
	const char *why;
	double now; /* Unix seconds */

	struct top_row *row;
	size_t count;

	enum top_order order;
	size_t columns, rows;	    /* of the terminal; 0: no limit */
	char selected[TARGET_SIZE]; /* the name of the row that keys have chosen; "": whichever is the first */
	size_t first;		    /* of those that are shown */
};

/* Takes a look, which the view owns from now on (NULL: there is none), and puts its rows in order. False: no memory. */
bool top_take(struct top_view *v, struct sink_reply *look);
void top_release(struct top_view *v);

/* In the view's order anew. */
void top_sort(struct top_view *v);

/* Moves the selection by so many rows, as far as there are any. */
void top_move(struct top_view *v, long by);
const char *top_selected(const struct top_view *v); /* NULL: there are no rows */

/* Adds the whole picture, lines ended by newlines. With a terminal's size it is never larger than that. */
void top_draw(struct top_view *v, struct buf *b);

/* Rows of the table that fit at present. */
size_t top_page(const struct top_view *v);

#endif
