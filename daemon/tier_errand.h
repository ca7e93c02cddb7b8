/* Inside the tiers: errands of the thread that reads, writes and proves caches. For tier*.c. */
#ifndef DAEMON_TIER_ERRAND_H
#define DAEMON_TIER_ERRAND_H

#include "ring.h"
#include "tier.h"

enum task { TASK_PROVE, TASK_READ, TASK_FILL, TASK_SAVE };

struct errand {
	struct job job;
	TAILQ_ENTRY(errand) link; /* among those that wait until all caches are at home */
	enum task task;
	struct conversation *v;
	struct model *model;
	char path[4096];
	struct ring_identity identity;
	double began;
	bool skip;    /* the newest generation was no good */
	bool changed; /* because it is of a text that was changed; the one before may be overwritten by now */

	struct kv *kv; /* being proved */
	const int32_t *log;
	size_t count;
	struct ring ring;
	void **page;

	struct kv_state state; /* being saved */
	struct kv_part *part;
	size_t parts;
	int64_t floor; /* bytes that must stay free */

	int rc;
	struct err err;
};

struct tiers {
	struct worker *worker;
	char dir[4096];
	size_t away;
	TAILQ_HEAD(, errand) waiting; /* for all caches to be at home */
	double scan_at;
	int64_t files, bytes;
	bool ending;
	struct err trouble; /* code 0: none */
	double trouble_until;
};

struct errand *errand_new(struct core *c, struct conversation *v, enum task task);
void errand_free(struct errand *n);
/* Hands it over. A negative code: it stays the caller's. */
int errand_give(struct core *c, struct errand *n);
/* It waits until all caches are at home, see errand_home(). */
void errand_wait(struct core *c, struct errand *n);

/* What is done in the thread. */
void errand_prove(struct errand *n);
void errand_save(struct errand *n);
int64_t errand_free_bytes(const char *dir);

/* What is done when it is back: tier_back.c */
void errand_proved(struct core *c, struct errand *n);
void errand_was_read(struct core *c, struct errand *n);
void errand_filled(struct core *c, struct errand *n);
void errand_take_pages(struct core *c, struct errand *n);
/* tier_save.c */
void errand_saved(struct core *c, struct errand *n);
void errand_release_parts(struct core *c, struct errand *n);
bool tier_can_save(const struct core *c, const struct conversation *v);
bool tier_save(struct core *c, struct conversation *v);
void tier_drop(struct conversation *v);

void tier_forget_file(struct core *c, struct conversation *v);
const struct tokens *tier_marks(const struct model *m, const struct conversation *v);

#endif
