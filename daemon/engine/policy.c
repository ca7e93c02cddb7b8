/*
 * The policies, one row each. A new one is a row and a view function of its own; nothing else in the engine changes.
 * Dense attention is the window without an end, a plain window has no sinks, and recomputation is a window that begins
 * anew, so that no caller ever asks "which policy is this?".
 */
#include "policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct policy_row {
	const char *name;
	bool sinks, kept, window; /* which of S, K and W its text gives, in this order */
	enum marking marking;
	bool anew;
	int share; /* the kept rows' share of a budget: one in `share`; 0: none */
	void (*view)(const struct policy *p, const struct past *past, int64_t t, struct view *ret);
};

static int64_t min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* How many marks lie before token t. */
static int64_t marks_before(const struct past *past, int64_t t)
{
	int64_t lo = past->first, hi = past->end;

	while (lo < hi) {
		int64_t mid = lo + (hi - lo) / 2;

		if (past->at[mid & past->mask] < t)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void view_sink(const struct policy *p, const struct past *past, int64_t t, struct view *ret)
{
	*ret = (struct view){ .pinned = min64(p->sinks, t + 1) };
	ret->window = max64(max64(ret->pinned, past->begin), t - p->window + 1);
	ret->window_count = t + 1 - ret->window;
}

/* The marks between the pinned start and the window, the most recent ones. */
static void keep_marks(const struct policy *p, const struct past *past, int64_t pinned, struct view *ret)
{
	int64_t old = marks_before(past, ret->window);

	/* A mark among the pinned tokens, or one that was pinned once and is forgotten, is seen there. */
	ret->kept_first = max64(marks_before(past, pinned), old - p->kept);
	ret->kept_count = old - ret->kept_first;
}

static void view_separator(const struct policy *p, const struct past *past, int64_t t, struct view *ret)
{
	view_sink(p, past, t, ret);
	keep_marks(p, past, ret->pinned, ret);
}

/* The token behind the last anchor before token t. */
static int64_t sequence_begin(const struct past *past, int64_t t)
{
	int64_t before = marks_before(past, t);

	return before > past->first ? past->at[(before - 1) & past->mask] + 1 : 0;
}

static bool is_mark(const struct past *past, int64_t t)
{
	int64_t before = marks_before(past, t);

	return before < past->end && past->at[before & past->mask] == t;
}

static void view_anchor(const struct policy *p, const struct past *past, int64_t t, struct view *ret)
{
	const int64_t begin = sequence_begin(past, t), pinned = min64(p->sinks, t + 1);
	const bool anchor = is_mark(past, t);

	*ret = (struct view){ .pinned_first = anchor ? min64(begin, pinned) : 0 };
	ret->pinned = pinned - ret->pinned_first;
	ret->window = max64(max64(begin, pinned), t - p->window + 1);
	ret->window_count = t + 1 - ret->window;
	ret->kept_first = marks_before(past, t);
	if (!anchor)
		keep_marks(p, past, pinned, ret);
}

static const struct policy_row rows[] = {
	{ "dense", false, false, false, MARKING_NONE, false, 0, view_sink },
	{ "window", false, false, true, MARKING_NONE, false, 0, view_sink },
	{ "recompute", false, false, true, MARKING_NONE, true, 0, view_sink },
	{ "sink", true, false, true, MARKING_NONE, false, 0, view_sink },
	{ "separator", true, true, true, MARKING_SEPARATORS, false, 8, view_separator },
	{ "anchor", true, true, true, MARKING_ANCHORS, false, 2, view_anchor },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static const struct policy_row *row_named(const char *name, size_t len, struct err *e)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
			return &rows[i];
	err_set(e, SINK_EINVAL,
		"There is no policy \"%.*s\" (dense, window:W, recompute:W, sink:S,W, separator:S,K,W, anchor:S,K,W).",
		(int)(len < 64 ? len : 64), name);
	return NULL;
}

/* Reads one number of the list, digits only; *text moves behind it and its comma. */
static bool take_number(const char **text, long least, int32_t *ret)
{
	char *end;
	long n;

	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	n = strtol(*text, &end, 10);
	if (errno || n < least || n >= INT32_MAX || (*end && *end != ','))
		return false;
	*ret = (int32_t)n;
	*text = *end ? end + 1 : end;
	return true;
}

/* The same, where "all" is a number too. */
static bool take_kept(const char **text, int32_t *ret)
{
	if (strncmp(*text, "all", 3) != 0 || ((*text)[3] && (*text)[3] != ','))
		return take_number(text, 0, ret);
	*ret = INT32_MAX;
	*text += (*text)[3] ? 4 : 3;
	return true;
}

int policy_parse(const char *text, struct policy *ret, struct err *e)
{
	size_t len = strcspn(text, ":");
	const char *at = text[len] ? text + len + 1 : text + len;
	struct policy p = { row_named(text, len, e), 0, INT32_MAX, 0, -1 };
	bool takes_token = false;

	if (!p.row)
		return SINK_EINVAL;
	if (p.row->sinks && !take_number(&at, 0, &p.sinks))
		return err_set(e, SINK_EINVAL, "Policy \"%s\": the number of sinks must be 0 or more.", text);
	if (p.row->kept && !take_kept(&at, &p.kept))
		return err_set(e, SINK_EINVAL, "Policy \"%s\": the number of %s kept must be 0 or more, or all.", text,
			       p.row->marking == MARKING_ANCHORS ? "anchors" : "separators");
	if (p.row->window && !take_number(&at, 1, &p.window))
		return err_set(e, SINK_EINVAL, "Policy \"%s\": the window must be 1 token or more.", text);
	if (p.sinks > 0 && strncmp(at, "token=", 6) == 0 && at[-1] == ',') {
		takes_token = true;
		at += 6;
		if (!take_number(&at, 0, &p.token))
			return err_set(e, SINK_EINVAL, "Policy \"%s\": the sink token is no token id.", text);
	}
	if (text[len] && (*at || at[-1] == ':' || at[-1] == ','))
		return err_set(e, SINK_EINVAL, "Policy \"%s\": \"%s\" is left over%s.", text, *at ? at : at - 1,
			       !takes_token && strncmp(at, "token=", 6) == 0 ? " (a sink token needs a sink)" : "");
	*ret = p;
	return 0;
}

void policy_format(const struct policy *p, char *text, size_t size)
{
	const struct policy_row *row = p->row;
	char s[16] = "", k[16] = "", w[16] = "", token[24] = "";

	if (row->sinks)
		snprintf(s, sizeof(s), "%d,", p->sinks);
	if (row->kept)
		snprintf(k, sizeof(k), "%d,", p->kept);
	if (row->kept && p->kept == INT32_MAX)
		snprintf(k, sizeof(k), "all,");
	if (row->window)
		snprintf(w, sizeof(w), "%d", p->window);
	if (p->token >= 0)
		snprintf(token, sizeof(token), ",token=%d", p->token);
	snprintf(text, size, "%s%s%s%s%s%s", row->name, row->window ? ":" : "", s, k, w, token);
}

int policy_at_budget(const char *name, int64_t budget, int64_t sinks, int64_t kept, struct policy *ret, struct err *e)
{
	struct policy p = { row_named(name, strlen(name), e), 0, INT32_MAX, 0, -1 };
	int64_t window = budget;

	if (!p.row)
		return SINK_EINVAL;
	if (budget < 1 || budget >= INT32_MAX || sinks < 0)
		return err_set(e, SINK_EINVAL, "A budget of %lld rows with %lld sinks is out of range.",
			       (long long)budget, (long long)sinks);
	if (p.row->sinks) {
		window -= sinks;
		p.sinks = (int32_t)min64(sinks, budget);
	}
	if (p.row->kept) {
		p.kept = (int32_t)(kept < 0 ? budget / p.row->share : min64(kept, budget));
		window -= p.kept;
	}
	if (p.row->window && window < 1)
		return err_set(e, SINK_EINVAL, "A budget of %lld rows leaves no window to %s beside %lld sinks%s.",
			       (long long)budget, name, (long long)sinks, p.row->kept ? " and the rows kept" : "");
	if (p.row->window)
		p.window = (int32_t)window;
	*ret = p;
	return 0;
}

struct policy policy_pinned(const struct policy *p, int32_t sinks)
{
	struct policy pinned = *p;

	pinned.window -= p->window == INT32_MAX ? 0 : sinks - p->sinks;
	pinned.sinks = sinks;
	return pinned;
}

const char *policy_listed(size_t i)
{
	return i < ROWS ? rows[i].name : NULL;
}

const char *policy_name(const struct policy *p)
{
	return p->row->name;
}

enum marking policy_marking(const struct policy *p)
{
	return p->row->marking;
}

bool policy_has_sinks(const struct policy *p)
{
	return p->row->sinks;
}

bool policy_begins_anew(const struct policy *p)
{
	return p->row->anew;
}

bool policy_is_endless(const struct policy *p)
{
	return p->window != INT32_MAX && p->kept != INT32_MAX;
}

int64_t policy_budget(const struct policy *p)
{
	return policy_is_endless(p) ? (int64_t)p->sinks + p->kept + p->window : INT32_MAX;
}

void policy_view(const struct policy *p, const struct past *past, int64_t t, struct view *ret)
{
	p->row->view(p, past, t, ret);
}

void policy_held(const struct policy *p, const struct past *past, int64_t t, struct view *ret)
{
	if (p->row->marking != MARKING_ANCHORS || !is_mark(past, t)) {
		policy_view(p, past, t, ret);
		return;
	}
	*ret = (struct view){ .pinned = min64(p->sinks, t + 1), .window = t + 1 };
	keep_marks(p, past, ret->pinned, ret);
}

bool policy_knows(const struct policy *p, const struct past *past, int64_t t)
{
	struct view v;

	if (p->row->marking == MARKING_NONE || past->first == 0)
		return true;
	if (p->row->marking == MARKING_ANCHORS && marks_before(past, t) == past->first)
		return false; /* nobody knows where its sequence began */
	policy_view(p, past, t, &v);
	return v.kept_count == p->kept || v.kept_first > past->first; /* an older mark is known: none is missing */
}

int64_t view_size(const struct view *v)
{
	return v->pinned + v->kept_count + v->window_count;
}
