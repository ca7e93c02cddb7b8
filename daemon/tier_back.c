/*
 * Owns the ways back: a cache that was found in memory is proved; one of a file is read into pages of its own and then
 * proved likewise; what fails is set aside, and the next way is taken.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keep.h"
#include "log.h"
#include "tier_errand.h"

void errand_prove(struct errand *n)
{
	const struct tokens *marks = n->v->keeps.marks.count
					     ? &n->v->keeps.marks
					     : model_marks(n->model, policy_marking(&n->v->keeps.policy));
	const struct kv_options o = {
		.policy = n->v->keeps.policy, .step = 1, .mark = marks->id, .marks = marks->count
	};

	if (n->task == TASK_FILL) /* ring_fill() has compared the pages */
		n->rc = kv_accept(n->kv, &o, n->log, n->count, &n->err);
	else
		n->rc = kv_verify(n->kv, &o, n->log, n->count, &n->err);
}

static void restored(struct core *c, struct conversation *v, const char *from, double began)
{
	int64_t before = v->left.tokens;

	kv_info(v->kv, &v->seen);
	if (v->state == STATE_ANSWERING && (int64_t)v->log.count - 1 > before)
		before = (int64_t)v->log.count - 1;
	event_restored(c->events, v, v->seen.tokens, before > v->seen.tokens ? before - v->seen.tokens : 0, from,
		       clock_ms() - began);
	log_debug("The cache of \"%s\" is back from %s: %lld tokens of %lld, in %.1f ms.", v->name, from,
		  (long long)v->seen.tokens, (long long)before, clock_ms() - began);
	v->left = (struct kv_info){ 0 };
	v->tier = TIER_MEMORY;
	v->restoring = false;
	if (v->evicted_told > v->seen.evicted_end)
		v->evicted_told = v->seen.evicted_end;
	tier_rests(c, v);
}

static void replay(struct conversation *v)
{
	v->tier = TIER_REPLAY;
	v->replays = true;
	v->restoring = false;
}

static void begin_read(struct core *c, struct conversation *v, bool skip, bool changed, double began)
{
	struct errand *n = v->file_bytes ? errand_new(c, v, TASK_READ) : NULL;

	if (!n) {
		replay(v);
		return;
	}
	n->skip = skip;
	n->changed = changed;
	n->began = began;
	if (errand_give(c, n) < 0) {
		replay(v);
		errand_free(n);
	}
}

static void forget_file_and_replay(struct core *c, struct conversation *v)
{
	tier_forget_file(c, v);
	replay(v);
}

static void file_failed(struct core *c, struct errand *n)
{
	struct conversation *v = n->v;

	if (!n->skip && (n->rc == SINK_EFORMAT || n->rc == SINK_EGONE)) {
		log_info("\"%s\": %s The writing before that is tried.", v->name, n->err.text);
		begin_read(c, v, true, n->rc == SINK_EGONE, n->began);
		return;
	}
	if (n->rc == SINK_EGONE || n->changed) { /* it went back, and was ended before the file could follow */
		log_info("The file of the cache of \"%s\" is of a text that was changed since.", v->name);
		unlink(n->path);
		forget_file_and_replay(c, v);
		return;
	}
	log_warning("The file of the cache of \"%s\" is no good, its text is read anew: %s", v->name, n->err.text);
	if (n->rc != SINK_EPROTO && n->rc != SINK_EIO && n->rc != SINK_ENOMEM)
		ring_set_aside(n->path);
	forget_file_and_replay(c, v);
}

void errand_proved(struct core *c, struct errand *n)
{
	struct conversation *v = n->v;

	if (n->rc == 0) {
		restored(c, v, "memory", n->began);
		errand_free(n);
		return;
	}
	if (n->rc == SINK_EGONE)
		log_info("The cache of \"%s\" in memory is of a text that was changed since.", v->name);
	else
		log_warning("The cache of \"%s\" in memory is no good: %s", v->name, n->err.text);
	v->kv = NULL;
	begin_read(c, v, false, false, n->began);
	errand_wait(c, n); /* there it ends */
}

void errand_was_read(struct core *c, struct errand *n)
{
	if (n->rc == 0) {
		errand_wait(c, n);
		return;
	}
	file_failed(c, n);
	errand_free(n);
}

void errand_filled(struct core *c, struct errand *n)
{
	struct conversation *v = n->v;

	if (n->rc < 0) {
		file_failed(c, n);
		errand_wait(c, n);
		return;
	}
	v->kv = n->kv;
	kv_own(v->kv, n->identity.owner);
	tier_release(v);
	v->ring = n->skip ? NULL : malloc(sizeof(*v->ring));
	if (v->ring) { /* without it the file is written anew, as it must be where the newest generation is no good */
		*v->ring = n->ring;
		n->ring = (struct ring){ 0 };
	}
	restored(c, v, "disk", n->began);
	errand_free(n);
}

/* A cache in the state of the file, with pages for what is to be read. */
static int take_pages(struct core *c, struct errand *n, struct err *e)
{
	struct conversation *v = n->v;
	const struct tokens *marks = tier_marks(c->model, v);
	const struct kv_options o = {
		.policy = v->keeps.policy, .step = (size_t)c->conf.batch, .mark = marks->id, .marks = marks->count
	};
	struct kv_part *part = calloc(n->ring.parts + 1, sizeof(*part));
	int rc = 0;

	n->page = calloc(n->ring.parts + 1, sizeof(*n->page));
	for (size_t i = 0; part && i < n->ring.parts; i++)
		part[i] = (struct kv_part){ .run = n->ring.part[i].run,
					    .number = n->ring.part[i].number,
					    .sum = n->ring.part[i].sum,
					    .sealed = true };
	if (!part || !n->page)
		rc = err_set(e, SINK_ENOMEM, "There is no memory for a cache.");
	else
		rc = kv_restore(model_arena(c->model), &o, &n->ring.state, v->log.id, part, n->ring.parts, &n->kv, e);
	for (size_t i = 0; rc == 0 && i < n->ring.parts; i++)
		n->page[i] = part[i].page;
	free(part);
	return rc;
}

void errand_take_pages(struct core *c, struct errand *n)
{
	int rc = take_pages(c, n, &n->err);

	n->task = TASK_FILL;
	if (rc == 0)
		rc = errand_give(c, n);
	if (rc == 0)
		return; /* it is the thread's now */
	if (n->kv)
		kv_free(n->kv);
	n->kv = NULL;
	n->rc = rc;
	if (rc == SINK_EBUSY && (core_make_space(c) || c->sched.count)) { /* once more, when there is room */
		free(n->page);
		n->page = NULL;
		n->task = TASK_READ;
		errand_wait(c, n);
		return;
	}
	if (rc == SINK_EBUSY || rc == SINK_ENOMEM)
		replay(n->v);
	else
		file_failed(c, n);
	errand_free(n);
}

static void begin_proof(struct core *c, struct conversation *v)
{
	struct errand *n = errand_new(c, v, TASK_PROVE);

	if (!n)
		return;
	n->kv = v->kv;
	if (errand_give(c, n) == 0)
		v->restoring = true;
	else
		errand_free(n);
}

bool tier_ready(struct core *c, struct conversation *v)
{
	v->leaving = false;
	if (v->restoring)
		return false;
	if (!c->tiers || policy_begins_anew(&v->keeps.policy))
		return true;
	switch (v->tier) {
	case TIER_NONE:
	case TIER_MEMORY:
		return true;
	case TIER_REPLAY:
		v->replays = v->replays || (!v->kv && v->left.tokens);
		return true;
	case TIER_FOUND:
		begin_proof(c, v);
		return false;
	case TIER_DISK:
		v->restoring = true;
		begin_read(c, v, false, false, clock_ms());
		return !v->restoring;
	}
	return true;
}
