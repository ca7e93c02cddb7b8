/*
 * Retention: which earlier tokens a token may see, and from when on a token can never be seen again.
 *
 * A policy speaks of positions in the text alone. Where a row lies is kv.c's business, how it is read is the kernel's.
 * Every policy's answer is a `struct view`: at most three runs in the order of the text,
 *
 *	pinned   tokens pinned_first ..           the sinks, or a whole system prompt
 *	kept     marks kept_first ..              separators (SepLLM) or anchors (AnLLM) older than the window
 *	window   tokens window .. t               the most recent ones, t itself included
 *
 * The position of a row is its rank in this order (StreamingLLM, section 3.2: positions inside the cache), so the query
 * stands at view_size() - 1.
 *
 *	dense               everything
 *	window:W            the last W tokens
 *	recompute:W         the last W tokens, encoded anew for every token that is predicted
 *	sink:S,W            the first S tokens and the last W (StreamingLLM, arXiv 2309.17453)
 *	sink:S,W,token=ID   the same for a model trained with a sink token of its own, which begins every text
 *	separator:S,K,W     S sinks, the K latest separators older than the window, the window (SepLLM, 2412.12094)
 *	anchor:S,K,W        S sinks, the K latest anchors of earlier sequences, the last W tokens of its own sequence;
 *	                    an anchor sees its own alone (AnLLM, 2402.07616, with S = 0 and all of the others)
 *
 * K may be "all". A mark is a separator or an anchor; which tokens are marks is not said here (marks.h). A sequence
 * ends with its anchor.
 */
#ifndef ENGINE_POLICY_H
#define ENGINE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* What a policy must know of the text, beside a token's place in it: its marks, numbered from 0, and its beginning. */
struct past {
	int64_t begin;	    /* first token that was read since the cache was last begun anew (recompute) */
	const int64_t *at;  /* mark number m stands in the text at at[m & mask]; ascending */
	int64_t mask;	    /* a power of two less 1 */
	int64_t first, end; /* the marks whose places are known; those before `first` were forgotten */
};

struct view {
	int64_t pinned_first, pinned; /* first token and number of the rows of the pinned run */
	int64_t kept_first;	      /* number of the first mark that is visible */
	int64_t kept_count;
	int64_t window; /* first token of the window run; t + 1 when that run is empty */
	int64_t window_count;
};

struct policy {
	const struct policy_row *row;
	int32_t sinks;	/* S, 0 and up */
	int32_t window; /* W, 1 and up, in tokens; INT32_MAX: no end */
	int32_t kept;	/* K, 0 and up: most marks visible at once; INT32_MAX: all */
	int32_t token;	/* the sink token that begins every text; -1: none */
};

/* What the marks of a policy are. */
enum marking { MARKING_NONE, MARKING_SEPARATORS, MARKING_ANCHORS };

enum { POLICY_TEXT = 64 }; /* bytes that policy_format() needs at most */

/*
 * Reads a policy as above. Fails with SINK_EINVAL, naming the part that is wrong; *ret is written on success only.
 */
int policy_parse(const char *text, struct policy *ret, struct err *e);

/* Writes the policy as policy_parse() reads it. */
void policy_format(const struct policy *p, char *text, size_t size);

/*
 * The policy of this name that holds `budget` rows, `sinks` of them pinned where it has sinks and `kept` for marks
 * where it has any (below 0: an eighth of the budget for separators, as in SepLLM's streaming demo, half of it for
 * anchors), the rest for the window; dense ignores the budget. SINK_EINVAL when there is no such name, or no window is
 * left.
 */
int policy_at_budget(const char *name, int64_t budget, int64_t sinks, int64_t kept, struct policy *ret, struct err *e);

/* The policy with its first `sinks` tokens pinned, the window giving up what they take. */
struct policy policy_pinned(const struct policy *p, int32_t sinks);

/* The name of policy number i, in the order of the table; NULL behind the last. */
const char *policy_listed(size_t i);

const char *policy_name(const struct policy *p);
enum marking policy_marking(const struct policy *p);
bool policy_has_sinks(const struct policy *p);
bool policy_begins_anew(const struct policy *p); /* recompute: see kv_aim() */

/* Whether rows are evicted so that a text has no end; else the budget's end is the conversation's. */
bool policy_is_endless(const struct policy *p);

/* Rows that are held at most, marks inside the window counted once; INT32_MAX when there is no end. */
int64_t policy_budget(const struct policy *p);

/* What token t sees; the past reaches to token t at least. Costs O(log of the marks known). */
void policy_view(const struct policy *p, const struct past *past, int64_t t, struct view *ret);

/* What is held once token t was read: what t saw; after an anchor, what the next token will see of the past. */
void policy_held(const struct policy *p, const struct past *past, int64_t t, struct view *ret);

/* Whether all that the view of token t may show is known: false when it would need marks that were forgotten. */
bool policy_knows(const struct policy *p, const struct past *past, int64_t t);

/* Rows in the view; at least one, since a token sees itself. */
int64_t view_size(const struct view *v);

#endif
