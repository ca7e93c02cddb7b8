/*
 * Where caches are: in memory, in files, or nowhere. The loop's side of ring.h and of adopted arenas (kv.h).
 *
 * A cache is written to its file when a page of it has filled, when its conversation has been idle for a moment, before
 * it leaves memory, and at the end; by a thread of its own, from pages that are held for it meanwhile. It comes back
 * when it is used: from memory that an earlier process left, else from the file, else by replay of the token log. What
 * comes back is proved before it is used, page by page; what cannot be proved is set aside.
 */
#ifndef DAEMON_TIER_H
#define DAEMON_TIER_H

#include "core.h"

struct tiers;

/* Before the model is loaded: the directory of files, DIR/caches. Nothing is done where nothing is kept. */
int tier_open(struct core *c, struct err *e);
/* The model is there: takes over what is in its arena, and hands that to the service manager. */
void tier_begin(struct core *c);
/* All jobs must be at home. */
void tier_close(struct core *c);

/*
 * Whether the cache of the conversation is as good as it can be made, so that it may be used: what is missing of it is
 * replayed then. If not, it is being brought back.
 */
bool tier_ready(struct core *c, struct conversation *v);

/* A new, empty cache was made for it. */
void tier_made(struct core *c, struct conversation *v);
/* Its cache has grown by a step; all are at home. */
void tier_grew(struct core *c, struct conversation *v);
/* It is idle from now on. */
void tier_rests(struct core *c, struct conversation *v);

enum tier_leave {
	TIER_LEFT,    /* it is out of memory */
	TIER_LEAVING, /* it will be, when its file is complete */
};
/* Takes the cache of an idle conversation out of memory. All at home. */
enum tier_leave tier_leave(struct core *c, struct conversation *v);

/* Frees what is known of its file. */
void tier_release(struct conversation *v);

/* Its file goes, for good. */
void tier_remove(struct core *c, struct conversation *v);

/* Whether a job has it: then it cannot be removed. */
bool tier_holds(const struct conversation *v);

int tier_fd(const struct core *c); /* -1: none */
void tier_take(struct core *c);
/* What is to be done when all caches are at home, and by the clock. */
void tier_turn(struct core *c);
double tier_due(const struct core *c);

/* The daemon ends: all is written. tier_is_idle() tells when that is done. */
void tier_stop(struct core *c);
bool tier_is_idle(const struct core *c);
bool tier_is_away(const struct core *c);

struct tier_figures {
	int64_t files, bytes, free_bytes;
	const struct err *trouble; /* why caches are not written; NULL: they are */
};
void tier_figures(const struct core *c, struct tier_figures *ret);

/* What rows of this conversation must be like. */
struct ring_identity;
void tier_identity(const struct core *c, const struct conversation *v, struct ring_identity *ret);
void tier_path(const struct core *c, const struct conversation *v, char *path, size_t size);
void tier_number_path(const struct core *c, int64_t conversation, char *path, size_t size);
/* Whether its file holds all that it can; if not, it is being written. For one that is free (tier_holds()). */
bool tier_written(struct core *c, struct conversation *v);
/* A file was put there for it. */
void tier_found_file(struct core *c, struct conversation *v, int64_t bytes);

#endif
