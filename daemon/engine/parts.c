/* Owns the pages of a cache as parts: which they are; and how a cache comes back from such, kept elsewhere. */
#include <assert.h>

#include "checkpoint.h"
#include "mirror.h"

size_t kv_parts_most(const struct kv *kv)
{
	return (size_t)(kv->runs[RUN_PINNED].ring + kv->runs[RUN_KEPT].ring + kv->runs[RUN_WINDOW].ring);
}

static size_t list_parts(struct kv *kv, const struct record_point *at, struct kv_part *part, bool share)
{
	size_t parts = 0;
	int64_t n, past;

	for (int run = 0; run < RUNS; run++)
		for (record_needed(kv, at, run, &n, &past); n < past; n++) {
			struct kv_part *p = &part[parts++];

			assert(kv_holds(kv, run, n));
			*p = (struct kv_part){ .run = run, .number = n, .page = record_page_of(kv, run, n) };
			p->sealed = record_is_full(kv, at, run, n) && record_entry_of(kv, run, n)->sealed;
			p->sum = p->sealed ? record_entry_of(kv, run, n)->sum : 0;
			if (share)
				arena_share(kv->a, p->page);
		}
	return parts;
}

size_t kv_parts(struct kv *kv, struct kv_part *part, bool share)
{
	const struct record_point now = record_now(kv);

	return checkpoint_fetch(kv) ? list_parts(kv, &now, part, share) : 0;
}

void kv_state_ready(const struct kv *kv, struct kv_state *ret)
{
	kv_state(kv, ret);
	if (checkpoint_is_ready(kv))
		*ret = (struct kv_state){ kv->sure.tokens, kv->sure.marks, kv->sure.text };
}

size_t kv_parts_ready(struct kv *kv, struct kv_part *part)
{
	return checkpoint_is_ready(kv) ? list_parts(kv, &kv->sure, part, true) : kv_parts(kv, part, true);
}

/* Whether the parts are those that the cache needs, in their order. */
static int check_parts(const struct kv *kv, const struct kv_part *part, size_t parts, struct err *e)
{
	const struct record_point now = record_now(kv);
	size_t i = 0;
	int64_t n, past;

	for (int run = 0; run < RUNS; run++)
		for (record_needed(kv, &now, run, &n, &past); n < past; n++, i++)
			if (i >= parts || part[i].run != run || part[i].number != n)
				return err_set(e, SINK_EFORMAT, "Page %lld of the %s run is missing.", (long long)n,
					       record_runs[run]);
	if (i < parts)
		return err_set(e, SINK_EFORMAT, "There are %zu pages where the cache needs %zu.", parts, i);
	return 0;
}

static void take_part(struct kv *kv, struct kv_part *part)
{
	struct record_entry *entry = record_entry_of(kv, part->run, part->number);

	part->page = arena_take(kv->a);
	if (arena_mirror(kv->a))
		mirror_absent(arena_mirror(kv->a), part->page);
	kv->runs[part->run].page[part->number % kv->runs[part->run].ring] = part->page;
	entry->number = part->number;
	entry->sum = part->sum;
	entry->sealed = 1;
	record_settled();
	entry->page = arena_number(kv->a, part->page) + 1;
}

int kv_restore(struct arena *a, const struct kv_options *o, const struct kv_state *s, const int32_t *log,
	       struct kv_part *part, size_t parts, struct kv **ret, struct err *e)
{
	struct kv *kv;
	int r = kv_new(a, o, &kv, e);

	if (r)
		return r;
	if (policy_begins_anew(&o->policy) || s->text == 0 || s->tokens < 0 ||
	    (!policy_is_endless(&o->policy) && s->tokens > kv->o.limit)) {
		r = err_set(e, SINK_EINVAL, "A cache of %lld tokens of this policy (%s) cannot be restored.",
			    (long long)s->tokens, policy_name(&o->policy));
		goto fail;
	}
	record_recall(kv, s->tokens, log);
	if (kv->past.end == s->marks)
		r = check_parts(kv, part, parts, e);
	else
		r = err_set(e, SINK_EFORMAT, "The text has %lld marks where the cache says %lld.",
			    (long long)kv->past.end, (long long)s->marks);
	if (!r && parts > arena_pages_free(a))
		r = err_set(e, SINK_EBUSY, "The cache needs %zu pages; %zu are left.", parts, arena_pages_free(a));
	if (r)
		goto fail;
	for (size_t i = 0; i < parts; i++)
		take_part(kv, &part[i]);
	kv->text = s->text;
	kv->sure = record_now(kv);
	record_save(kv);
	kv->unproved = kv->filled = kv->absent = true;
	*ret = kv;
	return 0;
fail:
	kv_free(kv);
	return r;
}
