/*
 * Owns the record of a cache (record.h): its sums; how a cache comes back with its arena, adopted; and the proof that
 * it is what it says.
 *
 * Nothing in a record is believed. Adoption looks at what it needs to claim the pages without harm to others; whose
 * rows they are is proved by sums afterwards, against the token log, in another thread if need be. So the proof takes
 * and drops no page: an entry that counts for nothing keeps its page until it is used again.
 */
#include "record.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "mirror.h"
#include "seal.h"

_Static_assert(sizeof(struct record_state) == 80 && sizeof(struct record_entry) == 24 && sizeof(struct record) == 304,
	       "README.md has the form, which RECORD_VERSION names");

static const uint64_t record_magic = UINT64_C(0x64726f6365726b73);

const char *const record_runs[RUNS] = { "pinned", "kept", "window" };

uint64_t kv_text(uint64_t before, const int32_t *token, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		before = (before ^ (uint32_t)token[i]) * UINT64_C(0x9E3779B97F4A7C15);
		before ^= before >> 32;
	}
	return before ? before : 1;
}

uint64_t record_marks(const struct kv_options *o)
{
	return policy_marking(&o->policy) == MARKING_NONE ? 0 : kv_text(0, o->mark, o->marks);
}

static void attach(struct kv *kv, struct record *r)
{
	struct record_entry *entry = r->entry;

	kv->record = r;
	for (int run = 0; run < RUNS; run++) {
		kv->runs[run].entry = entry;
		entry += kv->runs[run].ring;
	}
}

static size_t record_bytes(const int64_t ring[RUNS])
{
	return sizeof(struct record) +
	       (size_t)(ring[RUN_PINNED] + ring[RUN_KEPT] + ring[RUN_WINDOW]) * sizeof(struct record_entry);
}

int record_new(struct kv *kv, uint64_t marks, struct err *e)
{
	int64_t ring[RUNS];
	struct record *r;

	for (int run = 0; run < RUNS; run++)
		ring[run] = kv->runs[run].ring;
	r = arena_block_new(kv->a, record_bytes(ring), e);
	if (!r)
		return SINK_ENOMEM;
	memcpy(r->ring, ring, sizeof(ring));
	r->magic = record_magic;
	r->version = RECORD_VERSION;
	r->positions = (uint32_t)kv->o.positions;
	r->step = (int64_t)kv->o.step;
	r->origin = kv->o.origin;
	r->limit = kv->o.limit;
	r->marks = marks;
	policy_format(&kv->o.policy, r->policy, sizeof(r->policy));
	r->sum = seal_bytes(r, offsetof(struct record, sum), 0);
	attach(kv, r);
	return 0;
}

static uint64_t state_sum(const struct record *r, const struct record_state *s)
{
	return seal_bytes(s, offsetof(struct record_state, sum), r->sum);
}

void record_save(struct kv *kv)
{
	const struct record_point *p = &kv->sure;
	struct record_state s;

	if (!arena_mirror(kv->a))
		kv->sure = record_now(kv);
	s = (struct record_state){
		.turn = ++kv->turn, .owner = kv->owner, .tokens = p->tokens, .marks = p->marks, .text = p->text
	};
	memcpy(s.rows, p->rows, sizeof(s.rows));
	s.sum = state_sum(kv->record, &s);
	kv->state = (kv->state + 1) % RECORD_STATES;
	record_settled();
	kv->record->state[kv->state] = s;
	record_settled();
}

static bool is_full(const struct kv *kv, int run, int64_t number)
{
	const struct record_point now = record_now(kv);

	return record_is_full(kv, &now, run, number);
}

static int64_t extent(const struct kv *kv, int run)
{
	const struct record_point now = record_now(kv);

	return record_extent(kv, &now, run);
}

/* The first slot of a page that the run uses. */
static int64_t begin_of(const struct kv *kv, int run, int64_t number)
{
	const int64_t first = number * PAGE_TOKENS, sinks = kv->o.policy.sinks;

	return run == RUN_WINDOW && first < sinks ? sinks : first;
}

uint64_t record_sum(const struct kv *kv, const struct record_point *at, int run, int64_t first)
{
	const int64_t end = record_extent(kv, at, run), number = end / PAGE_TOKENS, from = number * PAGE_TOKENS;
	const int64_t begin = begin_of(kv, run, number);

	first = first > begin ? first : begin;
	if (arena_files(kv->a).records < 0 || first >= end || record_is_full(kv, at, run, number) ||
	    !kv_holds(kv, run, number))
		return 0;
	return seal_rows(arena_shape(kv->a), record_page_of(kv, run, number), run, number, (size_t)(first - from),
			 (size_t)(end - from));
}

static uint64_t sum_rows(const struct kv *kv, int run, int64_t first)
{
	const struct record_point now = record_now(kv);

	return record_sum(kv, &now, run, first);
}

static void sum_all_rows(struct kv *kv)
{
	for (int run = 0; run < RUNS; run++)
		kv->runs[run].rows = sum_rows(kv, run, 0);
}

void record_went_back(struct kv *kv, const int32_t *log)
{
	if (arena_mirror(kv->a)) {
		checkpoint_went_back(kv, log);
		return;
	}
	if (!policy_begins_anew(&kv->o.policy))
		sum_all_rows(kv);
	record_save(kv);
}

/* Seals the pages that a step filled, and sums the rows that it wrote to the one that is not full: from `first` on. */
static void sum_step(struct kv *kv, int run, int64_t first)
{
	struct run_pages *p = &kv->runs[run];
	const int64_t end = extent(kv, run), last = end / PAGE_TOKENS;

	if (first >= end)
		return;
	for (int64_t n = first / PAGE_TOKENS; n <= (end - 1) / PAGE_TOKENS && is_full(kv, run, n); n++) {
		struct record_entry *entry = record_entry_of(kv, run, n);

		entry->sum = seal_page(arena_shape(kv->a), record_page_of(kv, run, n), run, n);
		record_settled();
		entry->sealed = 1;
	}
	if (first <= begin_of(kv, run, last))
		p->rows = 0;
	p->rows += sum_rows(kv, run, first);
}

void record_went_on(struct kv *kv, int64_t t, int64_t marks)
{
	const int64_t sinks = kv->o.policy.sinks;

	if (arena_mirror(kv->a)) {
		checkpoint_went_on(kv, t, marks);
		return;
	}
	if (!policy_begins_anew(&kv->o.policy)) { /* which nobody keeps */
		sum_step(kv, RUN_PINNED, t);
		sum_step(kv, RUN_KEPT, marks);
		sum_step(kv, RUN_WINDOW, t > sinks ? t : sinks);
	}
	record_save(kv);
}

void kv_own(struct kv *kv, struct kv_owner o)
{
	kv->owner = o;
	if (kv->unproved)
		return;
	checkpoint_owned(kv);
	record_save(kv);
}

struct kv_owner kv_owner(const struct kv *kv)
{
	return kv->owner;
}

void kv_state(const struct kv *kv, struct kv_state *ret)
{
	*ret = (struct kv_state){ kv->tokens, kv->past.end, kv->text };
}

void kv_leave(struct kv *kv)
{
	if (kv && arena_files(kv->a).records >= 0) {
		checkpoint_end(kv);
		kv_free_tables(kv);
	} else {
		kv_free(kv);
	}
}

void record_needed(const struct kv *kv, const struct record_point *at, int run, int64_t *first, int64_t *past)
{
	const int64_t next = at->tokens - kv->o.policy.window + 1, end = record_extent(kv, at, run);
	struct past known = kv->past;
	struct view v = { 0 };
	int64_t slot = 0;

	*first = *past = 0;
	if (end == 0 || policy_begins_anew(&kv->o.policy))
		return;
	known.end = at->marks;
	policy_held(&kv->o.policy, &known, at->tokens - 1, &v);
	if (run == RUN_KEPT)
		slot = v.kept_first;
	else if (run == RUN_WINDOW)
		slot = v.window > next ? v.window : next;
	*first = (slot < end ? slot : end) / PAGE_TOKENS;
	*past = (end + PAGE_TOKENS - 1) / PAGE_TOKENS;
	if (run == RUN_WINDOW && end <= kv->o.policy.sinks)
		*past = *first; /* nothing was written there yet */
}

static void needed(const struct kv *kv, int run, int64_t *first, int64_t *past)
{
	const struct record_point now = record_now(kv);

	record_needed(kv, &now, run, first, past);
}

void record_recall(struct kv *kv, int64_t tokens, const int32_t *log)
{
	kv->past.first = kv->past.end = kv->tokens = 0;
	kv_note_marks(kv, log, (size_t)tokens);
	kv->past.end = kv->coming;
	kv->coming = 0;
	kv->tokens = kv->reached = tokens;
}

static bool is_whole(const struct record *r, const struct record_state *s)
{
	return s->turn > 0 && s->sum == state_sum(r, s);
}

/* The newest state that is whole; -1: none. */
static int newest_state(const struct record *r)
{
	int newest = -1;

	for (int i = 0; i < RECORD_STATES; i++)
		if (is_whole(r, &r->state[i]) && (newest < 0 || r->state[i].turn > r->state[newest].turn))
			newest = i;
	return newest;
}

/* Whether the text of some state is known, so that it may be proved. */
static bool is_kept(const struct record *r)
{
	bool known = false;

	for (int i = 0; i < RECORD_STATES; i++)
		known = known || (is_whole(r, &r->state[i]) && r->state[i].text);
	return known;
}

/* The options of a record, if it is one and this arena would give such a cache the same tables. */
static bool options_of(const struct arena *a, const struct record *r, size_t bytes, struct kv_options *o)
{
	int64_t ring[RUNS];

	if (bytes < sizeof(*r) || r->magic != record_magic || r->version != RECORD_VERSION ||
	    r->sum != seal_bytes(r, offsetof(struct record, sum), 0) || r->step < 1 ||
	    !memchr(r->policy, '\0', sizeof(r->policy)))
		return false;
	*o = (struct kv_options){ .positions = (enum positions)r->positions,
				  .step = (size_t)r->step,
				  .origin = r->origin,
				  .limit = r->limit };
	return policy_parse(r->policy, &o->policy, NULL) == 0 && !policy_begins_anew(&o->policy) &&
	       kv_check(o, NULL) == 0 && kv_plan(a, o, ring, NULL) == 0 && o->limit == r->limit &&
	       kv_is_ring(a, o, ring, r->ring) && record_bytes(r->ring) <= bytes;
}

/* Claims the pages that the entries name; one that makes no sense is cleared. */
static void claim(struct kv *kv)
{
	for (int run = 0; run < RUNS; run++)
		for (int64_t i = 0; i < kv->runs[run].ring; i++) {
			struct record_entry *entry = &kv->runs[run].entry[i];

			if (entry->page && entry->number >= 0 && entry->number < INT64_MAX / PAGE_TOKENS - 1 &&
			    entry->number % kv->runs[run].ring == i)
				kv->runs[run].page[i] = arena_claim(kv->a, entry->page - 1);
			if (!kv->runs[run].page[i])
				entry->page = 0;
			else if (arena_mirror(kv->a))
				mirror_absent(arena_mirror(kv->a), kv->runs[run].page[i]);
		}
}

static struct kv *revive(struct arena *a, struct record *r, size_t bytes)
{
	const struct record_state *s;
	struct kv_options o;
	struct kv *kv;
	int newest;

	if (!options_of(a, r, bytes, &o) || !is_kept(r))
		return NULL;
	newest = newest_state(r);
	s = &r->state[newest];
	if (s->owner.store == 0 && s->owner.conversation == 0)
		return NULL;
	kv = kv_alloc(a, &o, r->ring, NULL);
	if (!kv)
		return NULL;
	attach(kv, r);
	claim(kv);
	kv->owner = s->owner;
	kv->tokens = kv->reached = s->tokens;
	kv->text = s->text;
	kv->past.first = kv->past.end = s->marks; /* their places come with the log */
	kv->turn = s->turn;
	kv->state = newest;
	kv->unproved = kv->absent = true;
	return kv;
}

struct kv *kv_adopt(struct arena *a, size_t *cursor)
{
	size_t bytes;
	void *block;

	while ((block = arena_block_next(a, cursor, &bytes))) {
		struct kv *kv = revive(a, block, bytes);

		if (kv)
			return kv;
		arena_block_free(a, block);
	}
	return NULL;
}

static int check_expected(const struct kv *kv, const struct kv_options *o, struct err *e)
{
	const struct policy *has = &kv->o.policy, *wants = &o->policy;
	int r = kv_check(o, e);

	if (!r)
		r = kv_check_marks(o, e);
	if (r)
		return r;
	if (has->row != wants->row || has->sinks != wants->sinks || has->window != wants->window ||
	    has->kept != wants->kept || has->token != wants->token)
		return err_set(e, SINK_EINVAL, "The cache was read under another policy (%s).", kv->record->policy);
	if (kv->o.positions != o->positions || kv->o.origin != o->origin)
		return err_set(e, SINK_EINVAL, "The cache was read with other positions.");
	if (kv->record->marks != record_marks(o))
		return err_set(e, SINK_EINVAL, "The cache was read with other marks.");
	return 0;
}

/* What the entries say of their pages; it is taken for right unless it is compared. */
static int make_claims(struct kv *kv, struct err *e)
{
	struct seal_claim *c = kv->claim = calloc(kv_parts_most(kv) + 1, sizeof(*c));

	if (!c)
		return err_set(e, SINK_ENOMEM, "Out of memory for the proof of a cache.");
	for (int run = 0; run < RUNS; run++)
		for (int64_t i = 0; i < kv->runs[run].ring; i++, c++) {
			const struct record_entry *entry = &kv->runs[run].entry[i];

			if (entry->page && entry->sealed && entry->number >= 0)
				*c = (struct seal_claim){ kv->runs[run].page[i], run, entry->number, entry->sum, true };
		}
	return 0;
}

/* Whether a page that is held is what its run and number say: by its seal, or by the sum of its rows so far. */
static bool is_proved(const struct kv *kv, int run, int64_t n, uint64_t rows)
{
	if (kv->claim[record_entry_of(kv, run, n) - kv->record->entry].right)
		return true;
	return !is_full(kv, run, n) && arena_files(kv->a).records >= 0 && sum_rows(kv, run, 0) == rows;
}

/* Proves the pages that this state needs. */
static int prove(struct kv *kv, const struct record_state *s, const int32_t *log, struct err *e)
{
	int64_t n, past;

	record_recall(kv, s->tokens, log);
	if (kv->past.end != s->marks)
		return err_set(e, SINK_EFORMAT, "The text has %lld marks where the cache says %lld.",
			       (long long)kv->past.end, (long long)s->marks);
	for (int run = 0; run < RUNS; run++)
		for (needed(kv, run, &n, &past); n < past; n++)
			if (!kv_holds(kv, run, n) || !is_proved(kv, run, n, s->rows[run]))
				return err_set(e, SINK_EFORMAT, "Page %lld of the %s run is %s.", (long long)n,
					       record_runs[run], kv_holds(kv, run, n) ? "damaged" : "missing");
	return 0;
}

/* Of the pages that are not needed, those count that are full and proved: the text may be taken back to them. */
static void sort_out(struct kv *kv)
{
	for (int run = 0; run < RUNS; run++) {
		int64_t first, past;

		needed(kv, run, &first, &past);
		for (int64_t i = 0; i < kv->runs[run].ring; i++) {
			struct record_entry *entry = &kv->runs[run].entry[i];
			const int64_t n = entry->number;

			if (!entry->page || (n >= first && n < past))
				continue;
			if (n < 0 || !is_full(kv, run, n) || n * PAGE_TOKENS >= extent(kv, run) ||
			    !is_proved(kv, run, n, 0))
				entry->number = -1;
		}
	}
}

/* The state with the most tokens that are a beginning of the log, but for state number `but`; -1: none. */
static int state_of(const struct kv *kv, const int32_t *log, size_t count, int but)
{
	const struct record *r = kv->record;
	int64_t most = policy_is_endless(&kv->o.policy) ? INT64_MAX : kv->o.limit;
	int best = -1;

	most = (uint64_t)most > count ? (int64_t)count : most;
	for (int i = 0; i < RECORD_STATES; i++) {
		const struct record_state *s = &r->state[i];

		if (i != but && is_whole(r, s) && s->tokens >= 0 && s->tokens <= most &&
		    s->text == kv_text(0, log, (size_t)s->tokens) && (best < 0 || s->tokens > r->state[best].tokens))
			best = i;
	}
	return best;
}

/* Proves the newest state of this text; where it fails, the one before. */
static int prove_newest(struct kv *kv, bool compare, const int32_t *log, size_t count, struct err *e)
{
	struct err why;
	int r, state = state_of(kv, log, count, -1);

	if (state < 0)
		return err_set(e, SINK_EGONE, "The cache was read from another text.");
	if (compare)
		seal_compare(arena_shape(kv->a), kv->claim, kv_parts_most(kv));
	r = prove(kv, &kv->record->state[state], log, &why);
	if (r && (state = state_of(kv, log, count, state)) >= 0)
		r = prove(kv, &kv->record->state[state], log, NULL);
	if (r)
		return err_set(e, r, "%s", why.text);
	sort_out(kv);
	sum_all_rows(kv);
	kv->text = kv->record->state[state].text;
	kv->state = state;
	kv->unproved = kv->filled = false;
	kv->sure = record_now(kv);
	record_save(kv);
	return 0;
}

static int verify(struct kv *kv, bool compare, const struct kv_options *expected, const int32_t *log, size_t count,
		  struct err *e)
{
	int r = check_expected(kv, expected, e);

	if (!r && !kv->is_mark)
		r = kv_set_marks(kv, expected, e);
	if (!r)
		r = make_claims(kv, e);
	if (!r)
		r = prove_newest(kv, compare, log, count, e);
	free(kv->claim);
	kv->claim = NULL;
	return r;
}

int kv_verify(struct kv *kv, const struct kv_options *expected, const int32_t *log, size_t count, struct err *e)
{
	return verify(kv, true, expected, log, count, e);
}

int kv_accept(struct kv *kv, const struct kv_options *expected, const int32_t *log, size_t count, struct err *e)
{
	assert(kv->filled);
	return verify(kv, false, expected, log, count, e);
}
