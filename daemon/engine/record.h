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
	bool unproved;		  /* adopted or restored, and not verified yet */
	bool filled;		  /* of these, restored: its pages are the caller's to fill */
	struct seal_claim *claim; /* while it is proved: of the page of each entry (kv_parts_most()) */
};

/* What was written stands before what is written from here on: for who comes after us, not for other threads. */
static inline void record_settled(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

/* Makes the record of a cache whose tables are there, all of them empty. */
int record_new(struct kv *kv, uint64_t marks, struct err *e);
uint64_t record_marks(const struct kv_options *o);

/* Writes the state. */
void record_save(struct kv *kv);
/* The same after a step, which began at token t and `marks` marks, with sums of what it wrote; or after a rewind. */
void record_went_on(struct kv *kv, int64_t t, int64_t marks);
void record_went_back(struct kv *kv);

/* Of kv.c. */
int kv_check(const struct kv_options *o, struct err *e);
int kv_check_marks(const struct kv_options *o, struct err *e);
int kv_plan(const struct arena *a, struct kv_options *o, int64_t ring[RUNS], struct err *e);
struct kv *kv_alloc(struct arena *a, const struct kv_options *o, const int64_t ring[RUNS], struct err *e);
void kv_free_tables(struct kv *kv);
int kv_set_marks(struct kv *kv, const struct kv_options *o, struct err *e); /* remembers which ids are marks */
void kv_note_marks(struct kv *kv, const int32_t *token, size_t count);	    /* the marks of the coming tokens */
bool kv_holds(const struct kv *kv, int run, int64_t number);

#endif
