/*
 * Inside a cache, for kv.c and record.c alone: what is in memory (struct kv), and its record, which says the same to a
 * process that comes after ours. README.md has the record byte by byte.
 *
 * A record lies in a block of the arena. Its fixed part is written once. Of the state there are two copies, written in
 * turn, each with a sum, so that one is whole at any time. An entry is a place of a run's table; the tables are not
 * kept twice, only the addresses of the pages are, which the kernels want.
 *
 * We may die between any two instructions, so the order of writes is the rule: whatever makes something valid is
 * written last, and whatever makes it invalid first (record_settled() between them). An entry counts when it names a
 * page; a page is given to the arena after no entry names it; a sum counts when `sealed` says so.
 */
#ifndef ENGINE_RECORD_H
#define ENGINE_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv.h"

enum { RECORD_VERSION = 1, RECORD_STATES = 2 };

struct record_state {
	uint64_t turn; /* the larger one is the newer; 0: never written */
	struct kv_owner owner;
	int64_t tokens, marks;
	uint64_t text;
	uint64_t rows[RUNS]; /* seal_rows() of each run's page that is not full */
	uint64_t sum;
};

struct record_entry {
	int64_t number; /* of the page of the run that lies here; -1: of none that counts */
	uint64_t sum;	/* seal_page(), where sealed */
	uint32_t page;	/* its number in the arena, from 1 on; 0: none */
	uint32_t sealed;
};

struct record {
	uint64_t magic;
	uint32_t version, positions;
	int64_t step, origin, limit;
	int64_t ring[RUNS];
	uint64_t marks; /* kv_text() of the ids that are marks; 0: none */
	char policy[POLICY_TEXT];
	uint64_t sum; /* of what stands before it */
	struct record_state state[RECORD_STATES];
	struct record_entry entry[]; /* of the pinned run, the kept, the window */
};

struct run_pages {
	void **page;
	struct record_entry *entry; /* of the same places, in the record */
	int64_t ring;
	uint64_t rows; /* as in record_state */
};

/* A state of the text that a record may tell of. */
struct record_point {
	int64_t tokens, marks;
	uint64_t text;
	uint64_t rows[RUNS]; /* as in record_state */
};

struct kv {
	struct arena *a;
	struct kv_options o;
	struct kv_owner owner;
	int64_t tokens;	 /* the next token's place in the text */
	int64_t reached; /* how far the text was read; tokens is less while a policy that recomputes begins anew */
	uint64_t text;	 /* kv_text() of the tokens; 0: unknown */
	uint64_t text_coming;
	struct past past;
	int64_t *marks;	     /* past.at, to write to */
	int64_t coming;	     /* marks of the step at hand, behind past.end */
	uint8_t *is_mark;    /* a bit a token id */
	int32_t marks_below; /* ids from here on are none */
	struct run_pages runs[RUNS];
	struct page_table tables[RUNS]; /* the same, as kernels read them */
	struct record *record;
	uint64_t turn;		  /* of the state that was written last, */
	int state;		  /* and which of the two it is */
	struct record_point sure; /* what it says; the rest is for a device apart alone, see checkpoint.h: */
	struct record_point due[2];
	size_t dues;
	struct record_point page_end; /* the last that the step at hand reaches; tokens 0: none */
	bool far;		      /* kv_is_far() */
	bool absent;		      /* pages may lie at the host alone */
	bool unproved;		      /* adopted or restored, and not verified yet */
	bool filled;		      /* of these, restored: its pages are the caller's to fill */
	struct seal_claim *claim;     /* while it is proved: of the page of each entry (kv_parts_most()) */
};

/* What was written stands before what is written from here on: for who comes after us, not for other threads. */
static inline void record_settled(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

/* The cache as it is. */
static inline struct record_point record_now(const struct kv *kv)
{
	struct record_point now = { .tokens = kv->tokens, .marks = kv->past.end, .text = kv->text };

	for (int run = 0; run < RUNS; run++)
		now.rows[run] = kv->runs[run].rows;
	return now;
}

/* The slots of a run that the text has used up to a point end here. */
static inline int64_t record_extent(const struct kv *kv, const struct record_point *at, int run)
{
	const int64_t sinks = kv->o.policy.sinks;

	if (run == RUN_KEPT)
		return at->marks;
	return run == RUN_WINDOW || at->tokens < sinks ? at->tokens : sinks;
}

static inline bool record_is_full(const struct kv *kv, const struct record_point *at, int run, int64_t number)
{
	const int64_t end = record_extent(kv, at, run);

	return end >= (number + 1) * PAGE_TOKENS || (run == RUN_PINNED && end == kv->o.policy.sinks);
}

static inline struct record_entry *record_entry_of(const struct kv *kv, int run, int64_t number)
{
	return &kv->runs[run].entry[number % kv->runs[run].ring];
}

static inline void *record_page_of(const struct kv *kv, int run, int64_t number)
{
	return kv->runs[run].page[number % kv->runs[run].ring];
}

extern const char *const record_runs[RUNS]; /* their names */

/* Makes the record of a cache whose tables are there, all of them empty. */
int record_new(struct kv *kv, uint64_t marks, struct err *e);
uint64_t record_marks(const struct kv_options *o);

/* Writes the state: as it is, or on a device apart the one that is sure. */
void record_save(struct kv *kv);
/* The same after a step, which began at token t and `marks` marks, with sums of what it wrote; or after a rewind. */
void record_went_on(struct kv *kv, int64_t t, int64_t marks);
void record_went_back(struct kv *kv, const int32_t *log);

/*
 * The pages of a run that what follows a point can see: what the next token sees, were it plain; the copies of the
 * marks in the window, which will be seen later; and the page that is not full, since a page that is there has all its
 * rows.
 */
void record_needed(const struct kv *kv, const struct record_point *at, int run, int64_t *first, int64_t *past);
/* Takes the cache to a state of the text: no page is touched. */
void record_recall(struct kv *kv, int64_t tokens, const int32_t *log);
/* The sum of the rows from `first` on in the page of a run that is not full at a point; 0 when there is none. */
uint64_t record_sum(const struct kv *kv, const struct record_point *at, int run, int64_t first);

/* Of kv.c and kv_plan.c. */
int kv_check(const struct kv_options *o, struct err *e);
int kv_check_marks(const struct kv_options *o, struct err *e);
int kv_plan(const struct arena *a, struct kv_options *o, int64_t ring[RUNS], struct err *e);
bool kv_reaches_far(const struct arena *a, const struct kv_options *planned);
/* Whether tables that long serve as well: those of the other kind of device have a page more or less. */
bool kv_is_ring(const struct arena *a, const struct kv_options *o, const int64_t planned[RUNS],
		const int64_t ring[RUNS]);
struct kv *kv_alloc(struct arena *a, const struct kv_options *o, const int64_t ring[RUNS], struct err *e);
void kv_free_tables(struct kv *kv);
int kv_set_marks(struct kv *kv, const struct kv_options *o, struct err *e); /* remembers which ids are marks */
void kv_note_marks(struct kv *kv, const int32_t *token, size_t count);	    /* the marks of the coming tokens */
bool kv_holds(const struct kv *kv, int run, int64_t number);
/* Whether a text of so many tokens and marks can go on from here. */
bool kv_holds_text(const struct kv *kv, int64_t count, int64_t marks);
/* How many of the first `marks` marks stand before token `count`. */
int64_t kv_marks_before(const struct kv *kv, int64_t marks, int64_t count);
/* The slots of a run that the step at hand, which ends before token `end`, writes to. */
void kv_writes(const struct kv *kv, int64_t end, int run, int64_t *first, int64_t *past);

#endif
