/* Owns when the record of a cache on a device apart is written, and what for (checkpoint.h). */
#include "checkpoint.h"

#include "mirror.h"

enum { DUES = sizeof(((struct kv *)0)->due) / sizeof(struct record_point) };

/* Whether it is worth the way to the host: somebody's. */
static bool is_kept(const struct kv *kv)
{
	return arena_mirror(kv->a) && (kv->owner.store || kv->owner.conversation) && !policy_begins_anew(&kv->o.policy);
}

/* Whether there is a record that a next process finds. */
static bool is_recorded(const struct kv *kv)
{
	return is_kept(kv) && arena_files(kv->a).records >= 0;
}

/* Whether the host has the rows of a page that count at a point; it gets all that there are. */
static bool has_rows(struct kv *kv, const struct record_point *at, int run, int64_t n, bool wait)
{
	const struct record_point now = record_now(kv);
	size_t want = PAGE_TOKENS, has = PAGE_TOKENS;

	if (record_is_full(kv, &now, run, n)) {
		if (record_entry_of(kv, run, n)->sealed)
			return true;
	} else {
		want = (size_t)(record_extent(kv, at, run) - n * PAGE_TOKENS);
		has = (size_t)(record_extent(kv, &now, run) - n * PAGE_TOKENS);
	}
	return mirror_rows(arena_mirror(kv->a), record_page_of(kv, run, n), want, has, wait);
}

/* Whether a page is sealed, if it is full. */
static bool has_seal(struct kv *kv, int run, int64_t n, bool wait)
{
	const struct record_point now = record_now(kv);
	struct record_entry *entry = record_entry_of(kv, run, n);
	uint64_t seal;

	if (entry->sealed || !record_is_full(kv, &now, run, n))
		return true;
	seal = mirror_seal(arena_mirror(kv->a), record_page_of(kv, run, n), run, n, wait);
	if (!seal)
		return false;
	entry->sum = seal;
	record_settled();
	entry->sealed = 1;
	return true;
}

enum ask { ASK_ROWS, ASK_SEALS };

/* The same of all pages that a point needs. */
static bool has_all(struct kv *kv, const struct record_point *at, enum ask ask, bool wait)
{
	bool all = true;
	int64_t n, past;

	for (int run = 0; run < RUNS; run++)
		for (record_needed(kv, at, run, &n, &past); n < past; n++)
			if (!(ask == ASK_ROWS ? has_rows(kv, at, run, n, wait) : has_seal(kv, run, n, wait)))
				all = false;
	return all;
}

/* First all are sent, then all are waited for: so that they overlap. */
static bool has_come(struct kv *kv, const struct record_point *at, bool wait)
{
	bool rows = has_all(kv, at, ASK_ROWS, false), seals;

	if (wait && !rows)
		rows = has_all(kv, at, ASK_ROWS, true);
	seals = has_all(kv, at, ASK_SEALS, false);
	if (wait && rows && !seals)
		seals = has_all(kv, at, ASK_SEALS, true);
	return rows && seals;
}

static bool is_held(const struct kv *kv, const struct record_point *at)
{
	int64_t n, past;

	for (int run = 0; run < RUNS; run++)
		for (record_needed(kv, at, run, &n, &past); n < past; n++)
			if (!kv_holds(kv, run, n))
				return false;
	return true;
}

/* Whether the pages that the record tells of are there and sealed, as far as they are full; or all are. */
static bool is_whole(const struct kv *kv, bool all)
{
	int64_t n, past;

	for (int run = 0; run < RUNS; run++)
		for (record_needed(kv, &kv->sure, run, &n, &past); n < past; n++)
			if (!kv_holds(kv, run, n) ||
			    (record_is_full(kv, &kv->sure, run, n) ? !record_entry_of(kv, run, n)->sealed : all))
				return false;
	return true;
}

/* Sums the rows of pages that are not full: those that the last state had, and what has come since. */
static void sum_rows(const struct kv *kv, struct record_point *at)
{
	const struct record_point *was = &kv->sure;

	for (int run = 0; run < RUNS; run++) {
		const int64_t had = record_extent(kv, was, run), end = record_extent(kv, at, run);
		const bool goes_on = was->text && had <= end && had / PAGE_TOKENS == end / PAGE_TOKENS;

		at->rows[run] = record_sum(kv, at, run, goes_on ? had : 0);
		if (goes_on && !record_is_full(kv, at, run, end / PAGE_TOKENS))
			at->rows[run] += was->rows[run];
	}
}

static void push(struct kv *kv, struct record_point at)
{
	kv->dues -= kv->dues == DUES;
	kv->due[kv->dues++] = at;
}

static void drop_due(struct kv *kv, size_t i)
{
	kv->dues--;
	for (; i < kv->dues; i++)
		kv->due[i] = kv->due[i + 1];
}

/* Writes what is due and has come; with `wait` the first in any case. */
static void write_due(struct kv *kv, bool wait)
{
	while (kv->dues) {
		struct record_point at = kv->due[0];
		const bool held = is_held(kv, &at);

		if (held && !has_come(kv, &at, wait))
			return;
		drop_due(kv, 0);
		if (!held)
			continue;
		sum_rows(kv, &at);
		kv->sure = at;
		record_save(kv);
		wait = false;
	}
}

/* Whether the step at hand writes to what a point needs. */
static bool is_harmed(const struct kv *kv, const struct record_point *at, int64_t end)
{
	for (int run = 0; run < RUNS; run++) {
		int64_t slot, past, first, needed;

		kv_writes(kv, end, run, &slot, &past);
		record_needed(kv, at, run, &first, &needed);
		for (int64_t p = slot / PAGE_TOKENS; slot < past && p <= (past - 1) / PAGE_TOKENS; p++) {
			const struct record_entry *entry = record_entry_of(kv, run, p);

			if (entry->page && entry->number >= first && entry->number < needed &&
			    (entry->number != p || slot < record_extent(kv, at, run)))
				return true;
		}
	}
	return false;
}

/*
 * What the record tells of stays true, and what is due is not lost on the way, however slow that is. The end of a page
 * is soon enough as long as the ring has a page to spare (kv_plan()); else it is this very token.
 */
static void make_sure(struct kv *kv, int64_t end)
{
	bool tried = !kv->text || !kv->sure.text;

	for (;;) {
		const bool harmed = kv->sure.text && is_harmed(kv, &kv->sure, end);
		size_t before;

		if (harmed && !kv->dues && !tried) {
			push(kv, record_now(kv));
			tried = true;
		}
		if (!kv->dues || !(harmed || is_harmed(kv, &kv->due[0], end)))
			break;
		before = kv->dues;
		write_due(kv, true);
		if (kv->dues == before)
			break; /* the device has failed */
	}
	for (size_t i = kv->dues; i-- > 0;)
		if (is_harmed(kv, &kv->due[i], end))
			drop_due(kv, i);
}

static void load_pages(struct kv *kv)
{
	const struct record_point now = record_now(kv);

	for (int run = 0; run < RUNS; run++)
		for (int64_t i = 0; i < kv->runs[run].ring; i++) {
			const struct record_entry *entry = &kv->runs[run].entry[i];
			int64_t rows;
			bool full;

			if (!kv->runs[run].page[i] || entry->number < 0) /* then the number may be anything */
				continue;
			rows = record_extent(kv, &now, run) - entry->number * PAGE_TOKENS;
			full = record_is_full(kv, &now, run, entry->number);
			if (rows > 0)
				mirror_load(arena_mirror(kv->a), kv->runs[run].page[i],
					    full ? PAGE_TOKENS : (size_t)rows, full && entry->sealed ? entry->sum : 0);
		}
	kv->absent = false;
}

void checkpoint_before(struct kv *kv, const int32_t *token, size_t count)
{
	const int64_t end = kv->tokens + (int64_t)count, page_end = end / PAGE_TOKENS * PAGE_TOKENS;

	if (!arena_mirror(kv->a))
		return;
	if (kv->absent)
		load_pages(kv);
	if (!is_kept(kv))
		return;
	kv->page_end.tokens = 0;
	if (kv->text && page_end > kv->tokens)
		kv->page_end = (struct record_point){ .tokens = page_end,
						      .marks = kv_marks_before(kv, kv->past.end + kv->coming, page_end),
						      .text = kv_text(kv->tokens ? kv->text : 0, token,
								      (size_t)(page_end - kv->tokens)) };
	if (is_recorded(kv))
		make_sure(kv, end);
}

void checkpoint_went_on(struct kv *kv, int64_t t, int64_t marks)
{
	const struct record_point before = { .tokens = t, .marks = marks }, now = record_now(kv);

	if (!is_kept(kv))
		return;
	for (int run = 0; run < RUNS; run++) {
		const int64_t end = record_extent(kv, &now, run);

		for (int64_t n = record_extent(kv, &before, run) / PAGE_TOKENS; n * PAGE_TOKENS < end; n++)
			if (kv_holds(kv, run, n) && record_is_full(kv, &now, run, n))
				has_rows(kv, &now, run, n, false);
	}
	if (kv->page_end.tokens)
		push(kv, kv->page_end);
	kv->page_end.tokens = 0;
	write_due(kv, false);
}

void checkpoint_went_back(struct kv *kv, const int32_t *log)
{
	struct record_point at = record_now(kv);

	if (!arena_mirror(kv->a) || policy_begins_anew(&kv->o.policy))
		return;
	while (kv->dues && (!kv->text || kv->due[kv->dues - 1].tokens > kv->tokens))
		kv->dues--;
	if (!kv->text) { /* it is not to be kept */
		kv->sure = at;
		for (int i = 0; i < RECORD_STATES; i++)
			record_save(kv);
		return;
	}
	if (kv->sure.text && kv->sure.tokens <= kv->tokens)
		return;
	at.tokens = kv->tokens / PAGE_TOKENS * PAGE_TOKENS;
	at.marks = kv_marks_before(kv, kv->past.end, at.tokens);
	if (at.tokens < kv->tokens && kv_holds_text(kv, at.tokens, at.marks))
		at.text = kv_text(0, log, (size_t)at.tokens);
	else
		at = record_now(kv);
	kv->dues = 0; /* what is due tells less than this, and would be waited for in its place */
	push(kv, at);
	if (is_kept(kv))
		write_due(kv, true);
}

void checkpoint_owned(struct kv *kv)
{
	if (!is_kept(kv) || !kv->text)
		return;
	if (!is_whole(kv, false))
		kv->sure = (struct record_point){ .text = kv_text(0, NULL, 0) };
	if (kv->sure.tokens < kv->tokens && !kv->dues)
		push(kv, record_now(kv));
}

bool checkpoint_is_ready(const struct kv *kv)
{
	return is_kept(kv) && kv->sure.text && is_whole(kv, true);
}

/* Writes all that is due, unless the device has failed. */
static void write_all(struct kv *kv)
{
	size_t before;

	do {
		before = kv->dues;
		write_due(kv, true);
	} while (kv->dues < before);
}

void checkpoint_end(struct kv *kv)
{
	if (!is_recorded(kv) || kv->unproved)
		return;
	write_all(kv);
	if (kv->dues || !kv->text || kv->sure.tokens == kv->tokens)
		return;
	push(kv, record_now(kv));
	write_all(kv);
}

bool checkpoint_needs(const struct kv *kv, int run, int64_t number)
{
	int64_t first, past;

	if (!is_recorded(kv) || !kv->sure.text)
		return false;
	record_needed(kv, &kv->sure, run, &first, &past);
	return number >= first && number < past;
}

int64_t checkpoint_back(const struct kv *kv, int64_t back)
{
	if (!is_recorded(kv) || !kv->sure.text)
		return back;
	for (int i = 0; i < RECORD_STATES; i++)
		back = kv->record->state[i].tokens < back ? kv->record->state[i].tokens : back;
	return back;
}

bool checkpoint_fetch(struct kv *kv)
{
	const struct record_point now = record_now(kv);

	if (!arena_mirror(kv->a) || kv->absent)
		return true;
	has_all(kv, &now, ASK_ROWS, false);
	if (!has_all(kv, &now, ASK_ROWS, true))
		return false;
	has_all(kv, &now, ASK_SEALS, false);
	if (is_kept(kv))
		write_due(kv, false);
	return true;
}
