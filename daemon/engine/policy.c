/*
 * The policies, one row each. A new one is a row and a view function of its own; nothing else in the engine changes.
 * Dense attention is the window without an end, and a plain window has no sinks, so that no caller ever asks "which
 * policy is this?".
 */
#include "policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct policy_row {
	const char *name;
	bool sinks, window; /* which of S and W its text gives, in this order */
	void (*view)(const struct policy *p, const struct marks *m, int64_t t, struct view *ret);
};

static int64_t min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static void view_sink(const struct policy *p, const struct marks *m, int64_t t, struct view *ret)
{
	(void)m;
	ret->pinned = min64(p->sinks, t + 1);
	ret->kept_first = 0;
	ret->kept_count = 0;
	ret->window = max64(ret->pinned, t - p->window + 1);
	ret->window_count = t + 1 - ret->window;
}

static const struct policy_row rows[] = {
	{ "dense", false, false, view_sink },
	{ "window", false, true, view_sink },
	{ "sink", true, true, view_sink },
};

static const struct policy_row *row_named(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
			return &rows[i];
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

int policy_parse(const char *text, struct policy *ret, struct err *e)
{
	size_t len = strcspn(text, ":");
	const char *at = text[len] ? text + len + 1 : text + len;
	struct policy p = { row_named(text, len), 0, INT32_MAX, 0 };

	if (!p.row)
		return err_set(e, SINK_EINVAL, "There is no policy \"%.*s\" (dense, window:W, sink:S,W).", (int)len,
			       text);
	if (p.row->sinks && !take_number(&at, 0, &p.sinks))
		return err_set(e, SINK_EINVAL, "Policy \"%s\": the number of sinks must be 0 or more.", text);
	if (p.row->window && !take_number(&at, 1, &p.window))
		return err_set(e, SINK_EINVAL, "Policy \"%s\": the window must be 1 token or more.", text);
	if (text[len] && (*at || at[-1] == ':' || at[-1] == ','))
		return err_set(e, SINK_EINVAL, "Policy \"%s\": \"%s\" is left over.", text, *at ? at : at - 1);
	*ret = p;
	return 0;
}

void policy_format(const struct policy *p, char *text, size_t size)
{
	const struct policy_row *row = p->row;

	if (row->sinks && row->window)
		snprintf(text, size, "%s:%d,%d", row->name, p->sinks, p->window);
	else if (row->window)
		snprintf(text, size, "%s:%d", row->name, p->window);
	else
		snprintf(text, size, "%s", row->name);
}

const char *policy_name(const struct policy *p)
{
	return p->row->name;
}

bool policy_is_dense(const struct policy *p)
{
	return p->window == INT32_MAX;
}

int64_t policy_budget(const struct policy *p)
{
	return policy_is_dense(p) ? INT32_MAX : (int64_t)p->sinks + p->window;
}

void policy_view(const struct policy *p, const struct marks *m, int64_t t, struct view *ret)
{
	p->row->view(p, m, t, ret);
}

int64_t view_size(const struct view *v)
{
	return v->pinned + v->kept_count + v->window_count;
}
