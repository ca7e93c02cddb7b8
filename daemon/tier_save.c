/*
 * Owns the ways out: which caches are worth writing, what makes room on the disk, and what leaves memory. A page that
 * is being written is held by a share of it: the conversation goes on, and writes to a copy if it must.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keep.h"
#include "log.h"
#include "talk.h"
#include "tier_errand.h"

enum {
	REST_MS = 500,	   /* from the end of a turn until its cache is written */
	READING_MS = 2000, /* between two writings while a prompt is read */
	TROUBLE_MS = 30000,
};

void errand_save(struct errand *n)
{
	char dir[4096];

	snprintf(dir, sizeof(dir), "%s", n->path);
	*strrchr(dir, '/') = '\0';
	if (errand_free_bytes(dir) < n->floor)
		n->rc = err_set(&n->err, SINK_EBUSY, "The disk has less than %lld MiB free (free-space).",
				(long long)(n->floor >> 20));
	else
		n->rc = ring_write(n->path, &n->identity, &n->state, n->part, n->parts, true, &n->ring, &n->err);
}

static bool is_saved(const struct conversation *v)
{
	struct kv_state s;

	kv_state(v->kv, &s);
	return v->ring && v->ring->generation && v->ring->state.tokens == s.tokens && v->ring->state.text == s.text;
}

/* Whether there is anything that a file could hold, and the log that belongs to it is safe. */
bool tier_can_save(const struct core *c, const struct conversation *v)
{
	struct kv_state s;

	if (c->device_failed || !c->tiers || !v->kv || v->saving || v->restoring || v->tier != TIER_MEMORY ||
	    !v->kept.id || policy_begins_anew(&v->keeps.policy) || keep_has_stopped(c) ||
	    v->kept.safe_tokens < v->seen.tokens)
		return false;
	kv_state(v->kv, &s);
	return s.tokens > 0 && s.text && !is_saved(v);
}

/* Files are many and can be replaced; those of conversations used least recently make room, pinned ones last. */
static bool drop_a_file(struct core *c, const struct conversation *but)
{
	struct conversation *v, *victim = NULL;
	char path[4096];

	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	if (v != but && v->file_bytes && !tier_holds(v) && (!victim || !v->pin || victim->pin))
		victim = v;
	if (!victim)
		return false;
	log_debug("The file of the cache of \"%s\" makes room on the disk.", victim->name);
	tier_path(c, victim, path, sizeof(path));
	unlink(path);
	tier_forget_file(c, victim);
	if (victim->tier == TIER_DISK)
		victim->tier = TIER_REPLAY;
	return true;
}

static bool fits(struct core *c, const struct conversation *v, size_t parts)
{
	const int64_t page = (int64_t)arena_page_bytes(model_arena(c->model));
	int64_t grows = (int64_t)(parts + 2) * page - v->file_bytes;

	while (grows > 0 && c->tiers->bytes + grows > c->conf.cache_files)
		if (!drop_a_file(c, v))
			return false;
	return true;
}

void errand_release_parts(struct core *c, struct errand *n)
{
	for (size_t i = 0; i < n->parts; i++)
		arena_drop(model_arena(c->model), n->part[i].page);
	n->parts = 0;
}

/* The cache as it is, or while it goes on what costs no waiting. */
static bool save(struct core *c, struct conversation *v, bool goes_on)
{
	struct errand *n = errand_new(c, v, TASK_SAVE);

	if (!n)
		return false;
	n->part = calloc(kv_parts_most(v->kv) + 1, sizeof(*n->part));
	n->floor = c->conf.free_space;
	if (goes_on)
		kv_state_ready(v->kv, &n->state);
	else
		kv_state(v->kv, &n->state);
	if (n->part)
		n->parts = goes_on ? kv_parts_ready(v->kv, n->part) : kv_parts(v->kv, n->part, true);
	if (n->parts && fits(c, v, n->parts)) {
		if (v->ring)
			n->ring = *v->ring;
		free(v->ring);
		v->ring = NULL;
		v->saving = true;
		if (errand_give(c, n) == 0)
			return true;
		v->saving = false;
	}
	errand_release_parts(c, n);
	errand_free(n);
	return false;
}

bool tier_save(struct core *c, struct conversation *v)
{
	return save(c, v, false);
}

void errand_saved(struct core *c, struct errand *n)
{
	struct conversation *v = n->v;
	const double now = clock_ms();

	v->saving = false;
	v->saved_at = now;
	if (n->rc < 0) {
		if (!c->tiers->trouble.code)
			log_warning("Caches are not written to the disk: %s They are read anew after a restart.",
				    n->err.text);
		c->tiers->trouble = n->err;
		c->tiers->trouble_until = now + TROUBLE_MS;
		v->leaving = false;
	} else {
		c->tiers->trouble.code = 0;
		c->tiers->files += !v->file_bytes;
		c->tiers->bytes += n->ring.bytes - v->file_bytes;
		v->file_bytes = n->ring.bytes;
	}
	v->ring = n->ring.generation ? malloc(sizeof(*v->ring)) : NULL;
	if (v->ring) {
		*v->ring = n->ring;
		n->ring = (struct ring){ 0 };
	}
	errand_wait(c, n); /* where its pages are given back */
}

/* Out of memory: how much was read stays known. */
void tier_drop(struct conversation *v)
{
	const struct kv_info left = *conversation_cache(v);
	const int64_t told = v->evicted_told;

	talk_drop_cache(v);
	v->leaving = false;
	v->left = left;
	v->evicted_told = told;
	if (policy_begins_anew(&v->keeps.policy) || !left.tokens) {
		v->tier = TIER_NONE;
	} else if (v->file_bytes) {
		v->tier = TIER_DISK;
		v->replays = false;
	} else {
		v->tier = TIER_REPLAY;
	}
	conversation_unload(v); /* the text too, where the store has it */
}

enum tier_leave tier_leave(struct core *c, struct conversation *v)
{
	if (v->saving || (tier_can_save(c, v) && clock_ms() >= c->tiers->trouble_until && tier_save(c, v))) {
		v->leaving = true;
		return TIER_LEAVING;
	}
	tier_drop(v);
	return TIER_LEFT;
}

bool tier_written(struct core *c, struct conversation *v)
{
	if (v->saving)
		return false;
	if (c->batch_away)
		return !v->kv;
	return !tier_can_save(c, v) || clock_ms() < c->tiers->trouble_until || !tier_save(c, v);
}

void tier_made(struct core *c, struct conversation *v)
{
	if (policy_begins_anew(&v->keeps.policy))
		return;
	v->tier = TIER_MEMORY;
	v->left = (struct kv_info){ 0 };
	if (v->kept.id)
		kv_own(v->kv, (struct kv_owner){ keep_id(c), (uint64_t)v->kept.id });
}

void tier_grew(struct core *c, struct conversation *v)
{
	const int64_t have = v->ring ? v->ring->state.tokens / PAGE_TOKENS : 0;
	const double now = clock_ms();
	struct kv_state ready;

	kv_state_ready(v->kv, &ready);
	if (!c->tiers || ready.tokens / PAGE_TOKENS == have || now < c->tiers->trouble_until || !tier_can_save(c, v) ||
	    (v->state != STATE_ANSWERING && now < v->saved_at + READING_MS))
		return;
	save(c, v, true);
}

void tier_rests(struct core *c, struct conversation *v)
{
	if (!c->tiers)
		return;
	v->save_at = clock_ms() + REST_MS;
	if (c->tiers->scan_at <= 0 || c->tiers->scan_at > v->save_at)
		c->tiers->scan_at = v->save_at;
}

void tier_remove(struct core *c, struct conversation *v)
{
	char path[4096 + 8];

	if (!c->tiers || !v->kept.id)
		return;
	tier_path(c, v, path, 4096);
	unlink(path);
	strcat(path, ".bad");
	unlink(path);
	tier_forget_file(c, v);
}
