/* Owns what options of a cache are possible, and how long its tables are. */
#include <string.h>

#include "record.h"

static int64_t pages_for(int64_t tokens)
{
	return (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

int kv_check(const struct kv_options *o, struct err *e)
{
	if (!o->policy.row || o->policy.sinks < 0 || o->policy.window < 1 || o->policy.kept < 0)
		return err_set(e, SINK_EINVAL,
			       "The cache needs a policy with 0 sinks or more and a window of 1 or more.");
	if (o->step < 1 || o->step > KV_STEP_MOST)
		return err_set(e, SINK_EINVAL, "A step of %zu tokens is not within 1 and %d.", o->step, KV_STEP_MOST);
	if (o->origin < 0 || o->origin > (INT64_C(1) << 52))
		return err_set(e, SINK_EINVAL, "A text cannot begin at position %lld.", (long long)o->origin);
	if (o->limit < 0)
		return err_set(e, SINK_EINVAL, "A limit of %lld tokens is below 0.", (long long)o->limit);
	return 0;
}

int kv_check_marks(const struct kv_options *o, struct err *e)
{
	if (policy_marking(&o->policy) == MARKING_NONE)
		return 0;
	if (o->marks == 0)
		return err_set(e, SINK_EINVAL, "The policy %s needs to know which tokens to keep.",
			       policy_name(&o->policy));
	for (size_t i = 0; i < o->marks; i++)
		if (o->mark[i] < 0)
			return err_set(e, SINK_EINVAL, "%d is no token id.", o->mark[i]);
	return 0;
}

/*
 * Finds the length of each run's table: what the rows of a step see together. The window's are W - 1 + step tokens,
 * which begin and end inside a page. The kept's are K, those that the window may hold, those of the step, and those of
 * the `step` tokens before it, which stay for kv_rewind(). On a device apart the window's has a page more, since its
 * record tells of the end of a page that may lie that far back (checkpoint.h).
 */
int kv_plan(const struct arena *a, struct kv_options *o, int64_t ring[RUNS], struct err *e)
{
	const int64_t pages = (int64_t)arena_pages(a), step = (int64_t)o->step;
	const struct policy *p = &o->policy;
	int64_t need = 0, unbounded = 0, length;

	memset(ring, 0, RUNS * sizeof(*ring));
	ring[RUN_PINNED] = pages_for(p->sinks);
	if (p->window == INT32_MAX)
		unbounded++;
	else
		ring[RUN_WINDOW] = pages_for(p->window + (policy_begins_anew(p) ? 1 : step) - 2) + 1;
	if (policy_marking(p) != MARKING_NONE && p->kept == INT32_MAX)
		unbounded++;
	else if (policy_marking(p) != MARKING_NONE)
		ring[RUN_KEPT] = pages_for((int64_t)p->kept + p->window + 2 * step) + 1;
	ring[RUN_WINDOW] += ring[RUN_WINDOW] && arena_mirror(a) && !policy_begins_anew(p);
	for (int r = 0; r < RUNS; r++)
		need += ring[r];
	if (unbounded && !o->limit && need < pages)
		o->limit = (pages - need) / unbounded * PAGE_TOKENS;
	length = o->limit > pages * PAGE_TOKENS ? pages + 1 : pages_for(o->limit);
	if (p->window == INT32_MAX)
		ring[RUN_WINDOW] = length;
	if (p->kept == INT32_MAX)
		ring[RUN_KEPT] = length;
	need += unbounded * length;
	if (need > pages || (unbounded && length == 0))
		return err_set(e, SINK_EBUSY,
			       "A cache of this policy (%s) may need %lld pages of %d tokens; the memory for caches "
			       "holds %lld.",
			       policy_name(p), (long long)need, PAGE_TOKENS, (long long)pages);
	return 0;
}

/* Positions of a text without an end go as far as it does. */
bool kv_reaches_far(const struct arena *a, const struct kv_options *planned)
{
	int64_t rows = planned->limit;

	if (policy_is_endless(&planned->policy))
		rows = planned->positions == POSITIONS_TEXT ? INT64_MAX : policy_budget(&planned->policy);
	return rows > arena_original(a);
}

bool kv_would_be_far(const struct arena *a, const struct kv_options *o)
{
	struct kv_options planned = *o;
	int64_t ring[RUNS];

	return kv_check(o, NULL) == 0 && kv_plan(a, &planned, ring, NULL) == 0 && kv_reaches_far(a, &planned);
}

bool kv_is_ring(const struct arena *a, const struct kv_options *o, const int64_t planned[RUNS],
		const int64_t ring[RUNS])
{
	const int64_t other = o->policy.window == INT32_MAX ? 0 : arena_mirror(a) ? -1 : 1;
	const int64_t more = ring[RUN_WINDOW] - planned[RUN_WINDOW];

	return ring[RUN_PINNED] == planned[RUN_PINNED] && ring[RUN_KEPT] == planned[RUN_KEPT] &&
	       (more == 0 || more == other);
}
