/*
 * Retention: which earlier tokens a token may see, and from when on a token can never be seen again.
 *
 * A policy speaks of positions in the text alone. Where a row lies is kv.c's business, how it is read is the kernel's.
 * Every policy's answer is a `struct view`: at most three runs in the order of the text,
 *
 *	pinned   tokens 0 .. pinned-1             the sinks, or a whole system prompt
 *	kept     entries of the list of marks     separators (SepLLM) or anchors (AnLLM) older than the window
 *	window   tokens window .. t               the most recent ones, t itself included
 *
 * The position of a row is its rank in this order (StreamingLLM, section 3.2: positions inside the cache), so the query
 * stands at view_size() - 1.
 */
#ifndef ENGINE_POLICY_H
#define ENGINE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* The tokens of a conversation that a policy may keep beyond the window, by their positions in the text, ascending. */
struct marks {
	const int64_t *at;
	int64_t count;
};

struct view {
	int64_t pinned;	    /* rows of the pinned run */
	int64_t kept_first; /* first entry of the marks that is still visible */
	int64_t kept_count;
	int64_t window; /* first token of the window run; t + 1 when that run is empty */
	int64_t window_count;
};

struct policy {
	const struct policy_row *row;
	int32_t sinks;	/* S, 0 and up */
	int32_t window; /* W, 1 and up, in tokens; INT32_MAX for dense */
	int32_t kept;	/* K, 0 and up: most marks visible at once */
};

/*
 * Reads "dense", "window:W" or "sink:S,W". Fails with SINK_EINVAL, naming the part that is wrong; *ret is written on
 * success only.
 */
int policy_parse(const char *text, struct policy *ret, struct err *e);

/* Writes the policy as policy_parse() reads it. */
void policy_format(const struct policy *p, char *text, size_t size);

const char *policy_name(const struct policy *p);
bool policy_is_dense(const struct policy *p); /* nothing is ever evicted: the budget's end is the conversation's */

/* Rows that are held at most, or INT32_MAX for dense. */
int64_t policy_budget(const struct policy *p);

/* What token t sees. `m` holds the marks among tokens 0 .. t. Costs O(log m->count). */
void policy_view(const struct policy *p, const struct marks *m, int64_t t, struct view *ret);

/* Rows in the view; at least one, since a token sees itself. */
int64_t view_size(const struct view *v);

#endif
