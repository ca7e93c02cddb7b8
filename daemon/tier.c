/*
 * Owns the ways of a cache between memory and its file. Whatever touches the arena (taking and giving back pages, ends
 * of caches) is done when all caches are at home; the thread only reads pages that nobody writes, or fills pages that
 * nobody reads.
 */
#include "tier.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "keep.h"
#include "log.h"
#include "notify.h"
#include "tier_errand.h"

enum { SCAN_MS = 250 };

int tier_fd(const struct core *c)
{
	return c->tiers ? worker_fd(c->tiers->worker) : -1;
}

bool tier_is_away(const struct core *c)
{
	return c->tiers && c->tiers->away;
}

bool tier_holds(const struct conversation *v)
{
	return v->saving || v->restoring;
}

void tier_number_path(const struct core *c, int64_t conversation, char *path, size_t size)
{
	ring_path(c->tiers->dir, conversation, path, size);
}

void tier_path(const struct core *c, const struct conversation *v, char *path, size_t size)
{
	tier_number_path(c, v->kept.id, path, size);
}

const struct tokens *tier_marks(const struct model *m, const struct conversation *v)
{
	return v->keeps.marks.count ? &v->keeps.marks
				    : model_marks((struct model *)m, policy_marking(&v->keeps.policy));
}

/* What a cache's file says behind the policy when its keys were rotated for more rows than the model began with. */
static const char far[] = " far";
_Static_assert(POLICY_TEXT > 43 + sizeof(far), "the longest policy leaves room for it");

void tier_identity(const struct core *c, const struct conversation *v, struct ring_identity *ret)
{
	const struct tokens *marks = tier_marks(c->model, v);
	const struct kv_options o = {
		.policy = v->keeps.policy, .step = (size_t)c->conf.batch, .mark = marks->id, .marks = marks->count
	};

	memset(ret, 0, sizeof(*ret));
	ret->owner = (struct kv_owner){ keep_id(c), (uint64_t)v->kept.id };
	ret->fingerprint = c->fingerprint;
	ret->shape = *arena_shape(model_arena(c->model));
	policy_format(&v->keeps.policy, ret->policy, sizeof(ret->policy));
	if (v->kv ? kv_is_far(v->kv) : kv_would_be_far(model_arena(c->model), &o))
		memcpy(ret->policy + strlen(ret->policy), far, sizeof(far));
	ret->marks = marks->count ? kv_text(0, marks->id, marks->count) : 0;
}

/* Set-up. */

static bool file_number(const char *name, int64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoll(name, &end, 10);
	return end != name && *name != '-' && *name != '+' && !errno && strcmp(end, ".kv") == 0;
}

void tier_found_file(struct core *c, struct conversation *v, int64_t bytes)
{
	c->tiers->files++;
	c->tiers->bytes += bytes;
	v->file_bytes = bytes;
	if (v->tier == TIER_REPLAY || v->tier == TIER_NONE)
		v->tier = TIER_DISK;
}

/* Files whose conversation is gone are what a crash left of removing it; all else is not ours to touch. */
static void look_at(struct core *c, int dir, const char *name)
{
	struct conversation *v;
	struct stat s;
	int64_t id;

	if (!file_number(name, &id) || fstatat(dir, name, &s, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(s.st_mode))
		return;
	v = conversation_numbered(&c->table, id);
	if (!v) {
		log_info("%s/%s belongs to no conversation: it is removed.", c->tiers->dir, name);
		unlinkat(dir, name, 0);
	} else if (v->tier != TIER_NONE) {
		tier_found_file(c, v, s.st_size);
	}
}

int tier_open(struct core *c, struct err *e)
{
	struct dirent *entry;
	struct tiers *t;
	DIR *dir;
	int rc;

	if (!keep_is_on(c))
		return 0;
	t = c->tiers = calloc(1, sizeof(*t));
	if (!t)
		return err_set(e, SINK_ENOMEM, "There is no memory for the records of caches.");
	TAILQ_INIT(&t->waiting);
	if (snprintf(t->dir, sizeof(t->dir), "%s/caches", c->conf.state) >= (int)sizeof(t->dir))
		return err_set(e, SINK_EINVAL, "The path of the directory %s is too long.", c->conf.state);
	rc = worker_new("sinkd-pages", &t->worker, e);
	if (rc < 0)
		return rc;
	mkdir(t->dir, 0700);
	dir = opendir(t->dir);
	if (!dir) {
		err_set(&t->trouble, SINK_EIO, "The directory %s cannot be read: %s.", t->dir, strerror(errno));
		log_error("Caches are not kept in files: %s", t->trouble.text);
		t->trouble_until = 1e300;
		return 0;
	}
	while ((entry = readdir(dir)))
		look_at(c, dirfd(dir), entry->d_name);
	closedir(dir);
	return 0;
}

void tier_close(struct core *c)
{
	struct errand *n;

	if (!c->tiers)
		return;
	assert(!c->tiers->away);
	while ((n = TAILQ_FIRST(&c->tiers->waiting))) {
		TAILQ_REMOVE(&c->tiers->waiting, n, link);
		errand_release_parts(c, n);
		if (n->task != TASK_SAVE)
			kv_free(n->kv);
		errand_free(n);
	}
	worker_free(c->tiers->worker);
	free(c->tiers);
	c->tiers = NULL;
}

void tier_begin(struct core *c)
{
	struct arena *a = model_arena(c->model);
	const struct arena_files files = arena_files(a);
	size_t cursor = 0, found = 0;
	struct kv *kv;

	if (*model_refusal(c->model))
		log_warning("Caches in memory are not taken over: %s", model_refusal(c->model));
	while ((kv = kv_adopt(a, &cursor))) {
		const struct kv_owner owner = kv_owner(kv);
		struct conversation *v = owner.store == keep_id(c)
						 ? conversation_numbered(&c->table, (int64_t)owner.conversation)
						 : NULL;

		if (!v || v->kv || v->tier == TIER_NONE) {
			kv_free(kv);
			continue;
		}
		v->kv = kv;
		v->tier = TIER_FOUND;
		found++;
	}
	if (found)
		log_info("%zu caches were found in memory.", found);
	if (c->tiers && files.pages >= 0 && notify_keeps_fds()) {
		notify_keep_fd(NOTIFY_PAGES, files.pages);
		notify_keep_fd(NOTIFY_RECORDS, files.records);
	}
	c->pages_free = arena_pages_free(a);
}

void tier_release(struct conversation *v)
{
	if (v->ring)
		ring_release(v->ring);
	free(v->ring);
	v->ring = NULL;
}

void tier_forget_file(struct core *c, struct conversation *v)
{
	c->tiers->files -= v->file_bytes > 0;
	c->tiers->bytes -= v->file_bytes;
	v->file_bytes = 0;
	tier_release(v);
}

/* Errands. */

void errand_free(struct errand *n)
{
	ring_release(&n->ring);
	free(n->page);
	free(n->part);
	free(n);
}

int64_t errand_free_bytes(const char *dir)
{
	struct statvfs s;

	return statvfs(dir, &s) < 0 ? INT64_MAX : (int64_t)s.f_bavail * (int64_t)s.f_frsize;
}

/* Whether the file was read from this text: after a crash it may be of what was forgotten since. */
static void compare_text(struct errand *n)
{
	const struct kv_state *s = &n->ring.state;

	if (s->tokens < 0 || s->tokens > (int64_t)n->count || kv_text(0, n->log, (size_t)s->tokens) != s->text)
		n->rc = err_set(&n->err, SINK_EGONE, "The file is of another text.");
}

static void errand_run(struct job *j)
{
	struct errand *n = (struct errand *)j;

	switch (n->task) {
	case TASK_PROVE:
		errand_prove(n);
		break;
	case TASK_READ:
		n->rc = ring_read(n->path, &n->identity, n->skip, &n->ring, &n->err);
		if (n->rc == 0)
			compare_text(n);
		break;
	case TASK_FILL:
		n->rc = ring_fill(n->path, &n->ring, n->page, &n->err);
		if (n->rc == 0)
			errand_prove(n);
		break;
	case TASK_SAVE:
		errand_save(n);
		break;
	}
}

int errand_give(struct core *c, struct errand *n)
{
	int rc = worker_give(c->tiers->worker, &n->job, &n->err);

	if (rc == 0)
		c->tiers->away++;
	return rc;
}

void errand_wait(struct core *c, struct errand *n)
{
	TAILQ_INSERT_TAIL(&c->tiers->waiting, n, link);
}

static void errand_done(struct job *j, void *owner)
{
	static void (*const dones[])(struct core * c, struct errand * n) = {
		[TASK_PROVE] = errand_proved,
		[TASK_READ] = errand_was_read,
		[TASK_FILL] = errand_filled,
		[TASK_SAVE] = errand_saved,
	};
	struct errand *n = (struct errand *)j;
	struct core *c = owner;

	c->tiers->away--;
	dones[n->task](c, n);
}

struct errand *errand_new(struct core *c, struct conversation *v, enum task task)
{
	struct errand *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->job = (struct job){ errand_run, errand_done };
	n->task = task;
	n->v = v;
	n->model = c->model;
	n->began = clock_ms();
	n->log = v->log.id;
	n->count = v->log.count;
	tier_path(c, v, n->path, sizeof(n->path));
	tier_identity(c, v, &n->identity);
	return n;
}

void tier_take(struct core *c)
{
	struct job *j;

	while (c->tiers && (j = worker_take(c->tiers->worker)))
		j->done(j, c);
}

/* What had to wait for all caches to be at home. */
static void come_home(struct core *c)
{
	struct errand *n, *after;

	for (n = TAILQ_FIRST(&c->tiers->waiting); n; n = after) {
		struct conversation *v = n->v;

		after = TAILQ_NEXT(n, link);
		TAILQ_REMOVE(&c->tiers->waiting, n, link);
		if (n->task == TASK_READ) {
			errand_take_pages(c, n);
			continue;
		}
		if (n->task != TASK_SAVE) {
			kv_free(n->kv);
		} else {
			errand_release_parts(c, n);
			if (v->leaving && v->kv && !conversation_busy(v) && !v->encoding)
				tier_drop(v);
			v->leaving = false;
		}
		errand_free(n);
	}
	c->pages_free = arena_pages_free(model_arena(c->model));
}

static bool is_idle(const struct conversation *v)
{
	return !conversation_busy(v) && !v->encoding && !v->away;
}

/* Caches that have rested are written, and those that have for long leave memory. */
static void scan(struct core *c, double now)
{
	const double longest = (double)c->conf.cache_idle;
	struct conversation *v;
	double next = 0;

	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	{
		if (!v->kv || !is_idle(v) || v->restoring)
			continue;
		if (v->save_at > 0 && now >= v->save_at && now >= c->tiers->trouble_until) {
			if (tier_can_save(c, v) && !tier_save(c, v))
				continue;
			v->save_at = v->saving || tier_can_save(c, v) ? v->save_at : 0;
		}
		if (longest > 0 && v->tier == TIER_MEMORY && !v->pin && clock_unix() > v->used + longest)
			tier_leave(c, v);
		if (v->save_at > 0 || longest > 0)
			next = now + SCAN_MS;
	}
	c->tiers->scan_at = next;
	if (longest > 0)
		arena_trim(model_arena(c->model));
}

void tier_turn(struct core *c)
{
	const double now = clock_ms();

	if (!c->tiers || !c->model || c->batch_away)
		return;
	if (!TAILQ_EMPTY(&c->tiers->waiting))
		come_home(c);
	if (c->tiers->scan_at > 0 && now >= c->tiers->scan_at && !c->tiers->ending)
		scan(c, now);
	if (c->tiers->ending && c->phase == PHASE_STOPPING)
		tier_stop(c);
}

double tier_due(const struct core *c)
{
	return c->tiers && c->model && !c->batch_away ? c->tiers->scan_at : 0;
}

void tier_stop(struct core *c)
{
	struct conversation *v;

	if (!c->tiers || !c->model)
		return;
	c->tiers->ending = true;
	if (c->batch_away || clock_ms() < c->tiers->trouble_until)
		return;
	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	if (tier_can_save(c, v) && !tier_save(c, v))
		return;
}

bool tier_is_idle(const struct core *c)
{
	const struct conversation *v;

	if (!c->tiers || !c->model)
		return true;
	if (c->tiers->away || !TAILQ_EMPTY(&c->tiers->waiting))
		return false;
	if (clock_ms() < c->tiers->trouble_until)
		return true;
	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	if (tier_can_save(c, v))
		return false;
	return true;
}

void tier_figures(const struct core *c, struct tier_figures *ret)
{
	*ret = (struct tier_figures){ 0 };
	if (!c->tiers)
		return;
	ret->files = c->tiers->files;
	ret->bytes = c->tiers->bytes;
	ret->free_bytes = errand_free_bytes(c->conf.state);
	ret->trouble = c->tiers->trouble.code ? &c->tiers->trouble : NULL;
}
