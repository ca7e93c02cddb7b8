/*
 * Where the keys and values of a conversation lie: pages of PAGE_TOKENS tokens (kernels.h) out of one arena a model, in
 * one table a run (pinned, kept, window). Plain integers only; the rows themselves are in the device's memory.
 *
 * The window is a ring of whole pages: a page is used again when no token can see it any more, so eviction moves
 * nothing. A mark is written twice, to the window and to its place among the marks, whose pages go back to the arena
 * when no token can see them. Full pages never change; a fork shares them by reference count, and a page is copied
 * before it is written by one of two owners. Nothing is allocated by a step once a ring is full.
 *
 * There are no locks: an arena and all caches in it belong to one thread at a time (the engine's, while a step runs).
 * Only kv_new(), which takes no page, and arena_pages() may be called by another meanwhile.
 */
#ifndef ENGINE_KV_H
#define ENGINE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "error.h"
#include "kernels.h"
#include "policy.h"

enum positions {
	POSITIONS_CACHE, /* ranks inside the cache, as StreamingLLM has them */
	POSITIONS_TEXT,	 /* original positions, to compare */
};

enum { KV_STEP_MOST = 65536 };

struct kv_options {
	struct policy policy;
	enum positions positions;
	size_t step;	/* most tokens of one step, 1..KV_STEP_MOST: the slack of the ring */
	int64_t origin; /* added to the rotation of window rows: 0, or where the text is said to begin */
	int64_t limit;	/* most tokens of a cache whose policy has an end; 0: what the arena holds */

	/* The token ids that are marks, for policies that have any; copied. At least one. */
	const int32_t *mark;
	size_t marks;
};

struct kv;

/*
 * An empty cache. SINK_EINVAL for options out of range, SINK_EBUSY when the arena could never hold it, were every token
 * a mark.
 */
int kv_new(struct arena *a, const struct kv_options *o, struct kv **ret, struct err *e);
void kv_free(struct kv *kv); /* NULL is fine */

/* The same, but where the arena lies in files the record and its pages stay, for kv_adopt() by a process that comes. */
void kv_leave(struct kv *kv);

/* A second owner of the same rows; costs a copy of the page tables. */
int kv_fork(struct kv *kv, struct kv **ret, struct err *e);

/*
 * Forgets all tokens from `count` on, when every row that token count-1 saw is still there; else SINK_EGONE. `log`: the
 * tokens before it; NULL where the cache is not to be kept (kv_state.text).
 */
int kv_rewind(struct kv *kv, const int32_t *log, int64_t count, struct err *e);

/*
 * The token to read next, when tokens up to `end` of the text are to be read: the one behind the last read. A policy
 * that recomputes (recompute:W) begins anew for each token that it predicts: when `end` lies further than W tokens from
 * where the cache began, its rows are given up and it begins again at end - W.
 */
int64_t kv_aim(struct kv *kv, int64_t end);

struct kv_info {
	int64_t tokens;		      /* of the text, read so far */
	int64_t pinned, kept, window; /* rows that are held for what follows, by run */
	int64_t evicted;	      /* tokens that are not: those of pinned..evicted_end that are not kept */
	int64_t evicted_end;	      /* first token of the window */
	size_t pages;		      /* taken, shared ones included */
	size_t bytes;
};
void kv_info(const struct kv *kv, struct kv_info *ret);
/* The same as it was when the text was read up to token `count`, which lies no more than a step's tokens back. */
void kv_info_at(const struct kv *kv, int64_t count, struct kv_info *ret);
const struct policy *kv_policy(const struct kv *kv);

/*
 * Tokens that the next step may append at most: options.step; less near the end of a budget that has one, 0 at its end
 * (where a policy that recomputes begins anew, see kv_aim()).
 */
size_t kv_room(const struct kv *kv);

/*
 * For the model, around one step of `count` <= kv_room() tokens: reserve takes (and copies) the pages that the tokens
 * need and fails whole, with SINK_EBUSY, when the arena has none left; row() describes token `i` of them, with
 * the positions at which its key is rotated (one for each place in row.goes) and its query (one a run); commit makes
 * them part of the cache. Reserving again, before the commit, for fewer tokens of the same step takes nothing and
 * leaves the others out: their rows are overwritten by what comes later.
 */
int kv_reserve(struct kv *kv, const int32_t *token, size_t count, struct err *e);
void kv_row(const struct kv *kv, size_t i, struct row *row, int64_t key_at[2], int64_t query_at[RUNS]);
/*
 * Whether the ranks of a cache may come to lie beyond what the model's first set of frequencies is for (arena_turn()):
 * known when it is made, since keys are rotated once. And whether a cache of these options would.
 */
bool kv_is_far(const struct kv *kv);
bool kv_would_be_far(const struct arena *a, const struct kv_options *o);
/* Whether row.sees[].query tells distances: not those of marks that keep their places in the text. */
bool kv_tells_distances(const struct kv *kv);
/* The same row for layers that see less: of what it sees, the tokens fewer than `window` places back in the text. */
void kv_row_near(const struct kv *kv, size_t i, int64_t window, const struct row *row, struct row *ret);
void kv_commit(struct kv *kv, size_t count);

/*
 * Caches that outlive their process. A cache has a record, which says all that its rows need to be read again: policy,
 * state, the page of each place and its sum. Where the arena lies in files (arena.h), a process that adopts them finds
 * the records of the last one as it left them, at whatever instant it died. Elsewhere a cache is brought back page by
 * page (kv_restore). In both cases nothing may be read from it before kv_verify() has proved it, or kv_accept() has.
 */

/*
 * Whose it is, in numbers of the caller's; a cache that is nobody's (0, 0) is not found again. Of one that is not
 * proved yet it is only remembered, and becomes true with kv_verify().
 */
struct kv_owner {
	uint64_t store, conversation;
};
void kv_own(struct kv *kv, struct kv_owner o);
struct kv_owner kv_owner(const struct kv *kv);

/* A text as a number, from that of the text before it (0: none): what tells that rows belong to a token log. */
uint64_t kv_text(uint64_t before, const int32_t *token, size_t count);

/* What a cache's rows follow from, beside its options. */
struct kv_state {
	int64_t tokens; /* of the text, read so far */
	int64_t marks;	/* how many of them were marks */
	uint64_t text;	/* kv_text() of them; 0 when it is not known, and the cache cannot be kept */
};
void kv_state(const struct kv *kv, struct kv_state *ret);

/*
 * The next cache that an adopted arena holds, unverified, owning its pages. *cursor begins at 0. NULL: no more. Records
 * that make no sense or are nobody's are freed on the way. All at home, before anything else is done with the arena.
 */
struct kv *kv_adopt(struct arena *a, size_t *cursor);

/* A page that what follows can see. */
struct kv_part {
	int run;
	int64_t number;
	void *page;   /* its address at the host */
	bool sealed;  /* it will not change, and `sum` is known */
	uint64_t sum; /* seal_page(), where sealed; what kv_restore() gets is of the whole page in any case */
};

/*
 * The parts of the cache as it is, in ascending order of run and number; at most kv_parts_most() of them, none under a
 * policy that recomputes; 0 too when the device has failed. The host has them (it waits for what is on its way from a
 * device apart). With `share` each page gets one owner more, so that it stays as it is whatever becomes of the
 * cache: arena_drop() gives it back. Returns how many. All at home.
 */
size_t kv_parts_most(const struct kv *kv);
size_t kv_parts(struct kv *kv, struct kv_part *part, bool share);

/*
 * The same, shared, for whoever does not want to wait in mid-text: of the state that a device apart has brought to the
 * host already, mostly the last end of a page; elsewhere, or where there is no such state, of the cache as it is.
 */
void kv_state_ready(const struct kv *kv, struct kv_state *ret);
size_t kv_parts_ready(struct kv *kv, struct kv_part *part);

/*
 * A cache in this state whose pages are taken from the arena for the caller to fill: part[i].page is set for each run,
 * number and sum. `log` are the tokens of the text, at least s->tokens of them. SINK_EFORMAT when the parts are not
 * those that the state needs; SINK_EBUSY when the arena has not enough pages left; SINK_EINVAL, SINK_ENOMEM.
 */
int kv_restore(struct arena *a, const struct kv_options *o, const struct kv_state *s, const int32_t *log,
	       struct kv_part *part, size_t parts, struct kv **ret, struct err *e);

/*
 * Proves a cache that was adopted or restored: that it has these options (but for `step` and `limit`, where it keeps
 * its own), that its text is a beginning of `log`, and the sum of every page that it needs. An adopted cache goes back
 * to the last state that is whole. May run in any thread that has this cache alone, and is helped by a second one where
 * there is much to do. On failure only kv_free() is left: SINK_EINVAL: other options; SINK_EGONE: another text;
 * SINK_EFORMAT: damaged; the text says where; SINK_ENOMEM.
 */
int kv_verify(struct kv *kv, const struct kv_options *expected, const int32_t *log, size_t count, struct err *e);

/*
 * The same for a restored cache whose pages the caller has compared with the sums of its parts after they were filled
 * (as ring_fill() does): all but the pages' sums is proved.
 */
int kv_accept(struct kv *kv, const struct kv_options *expected, const int32_t *log, size_t count, struct err *e);

#endif
