/*
 * The page tables of conversations.
 *
 * A token below the pinned count lies in the run of that name at its own number; any other lies in the window run at
 * its position in the text. The window's table is a ring of whole pages: page number p (slot / PAGE_TOKENS) lies in
 * entry p % ring, and the record says which number an entry holds, so that a step knows whether it continues a page or
 * takes over one that nobody can see any more, and rewinding knows what is still there. The ring is as long as the
 * pages that the rows of one step can see together, hence a page is never taken over while a row of it is visible.
 *
 * A mark's row is written twice: to the window, and to the run of the kept, whose slots are the numbers of the marks.
 * So a row that leaves the window is not moved either. Pages of the kept go back to the arena as soon as no token that
 * the cache may go back to sees them: there are few marks in most texts, and the ring must have room for a text of
 * nothing else.
 *
 * Keys are rotated when they are written and never again. The query makes up for it, one rotation a run (DESIGN,
 * section 4): scores depend on the distance alone, and the distances are those of the ranks.
 *
 *	run      key at   query at
 *	pinned   j        pinned_first + size - 1
 *	kept     m        kept_first + kept_count + window_count - 1
 *	window   i        t
 */
#include "kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "mirror.h"
#include "record.h"

static int64_t pages_for(int64_t tokens)
{
	return (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

static bool alloc_run(struct kv *kv, int run, int64_t ring)
{
	struct run_pages *p = &kv->runs[run];

	p->ring = ring;
	if (ring == 0)
		return true;
	p->page = calloc((size_t)ring, sizeof(*p->page));
	kv->tables[run] = (struct page_table){ p->page, ring };
	return p->page != NULL;
}

/* The places of as many marks as the kept run has slots, and one before them. */
static bool alloc_marks(struct kv *kv)
{
	int64_t room = 1;

	if (kv->runs[RUN_KEPT].ring == 0)
		return true;
	while (room < kv->runs[RUN_KEPT].ring * PAGE_TOKENS + 1)
		room *= 2;
	kv->marks = calloc((size_t)room, sizeof(*kv->marks));
	kv->past.at = kv->marks;
	kv->past.mask = room - 1;
	return kv->marks != NULL;
}

void kv_free_tables(struct kv *kv)
{
	for (int r = 0; r < RUNS; r++)
		free(kv->runs[r].page);
	free(kv->marks);
	free(kv->is_mark);
	free(kv);
}

struct kv *kv_alloc(struct arena *a, const struct kv_options *o, const int64_t ring[RUNS], struct err *e)
{
	struct kv *kv = calloc(1, sizeof(*kv));
	bool whole = kv != NULL;

	for (int r = 0; whole && r < RUNS; r++)
		whole = alloc_run(kv, r, ring[r]);
	if (whole && alloc_marks(kv)) {
		kv->a = a;
		kv->o = *o;
		kv->o.mark = NULL;
		kv->far = kv_reaches_far(a, o);
		kv->text = kv->sure.text = policy_begins_anew(&o->policy) ? 0 : kv_text(0, NULL, 0);
		return kv;
	}
	err_set(e, SINK_ENOMEM, "Out of memory for the page tables of a cache.");
	if (kv)
		kv_free_tables(kv);
	return NULL;
}

int kv_set_marks(struct kv *kv, const struct kv_options *o, struct err *e)
{
	int32_t below = 0;

	for (size_t i = 0; i < o->marks; i++)
		below = o->mark[i] >= below ? o->mark[i] + 1 : below;
	if (!kv->marks)
		return 0;
	kv->is_mark = calloc((size_t)below / 8 + 1, 1);
	if (!kv->is_mark)
		return err_set(e, SINK_ENOMEM, "Out of memory for the marks of a cache.");
	kv->marks_below = below;
	for (size_t i = 0; i < o->marks; i++)
		kv->is_mark[o->mark[i] / 8] |= (uint8_t)(1 << o->mark[i] % 8);
	return 0;
}

int kv_new(struct arena *a, const struct kv_options *o, struct kv **ret, struct err *e)
{
	struct kv_options checked = *o;
	int64_t ring[RUNS];
	struct kv *kv;
	int r = kv_check(o, e);

	if (!r)
		r = kv_check_marks(o, e);
	if (!r)
		r = kv_plan(a, &checked, ring, e);
	if (r)
		return r;
	kv = kv_alloc(a, &checked, ring, e);
	if (!kv)
		return SINK_ENOMEM;
	r = kv_set_marks(kv, o, e);
	if (!r)
		r = record_new(kv, record_marks(o), e);
	if (r)
		kv_free_tables(kv);
	else
		*ret = kv;
	return r;
}

/* Gives back the pages whose number is below `first`, or `past` and more; first the record forgets them. */
static void keep_pages(struct kv *kv, int run, int64_t first, int64_t past)
{
	struct run_pages *p = &kv->runs[run];

	for (int64_t i = 0; i < p->ring; i++) {
		void *page = p->page[i];

		if (!page || (p->entry[i].number >= first && p->entry[i].number < past))
			continue;
		p->entry[i].page = 0;
		p->page[i] = NULL;
		record_settled();
		arena_drop(kv->a, page);
	}
}

void kv_free(struct kv *kv)
{
	if (!kv)
		return;
	arena_block_free(kv->a, kv->record); /* first: nobody shall find it when its pages are another's */
	record_settled();
	for (int r = 0; r < RUNS; r++)
		for (int64_t i = 0; i < kv->runs[r].ring; i++)
			if (kv->runs[r].page[i])
				arena_drop(kv->a, kv->runs[r].page[i]);
	kv_free_tables(kv);
}

/* The second owner's tables, without any page. */
static struct kv *alloc_fork(const struct kv *kv, struct err *e)
{
	int64_t ring[RUNS];
	struct kv *fork;

	for (int r = 0; r < RUNS; r++)
		ring[r] = kv->runs[r].ring;
	fork = kv_alloc(kv->a, &kv->o, ring, e);
	if (!fork)
		return NULL;
	if (kv->is_mark)
		fork->is_mark = malloc((size_t)kv->marks_below / 8 + 1);
	if ((!kv->is_mark || fork->is_mark) && record_new(fork, kv->record->marks, NULL) == 0)
		return fork;
	err_set(e, SINK_ENOMEM, "Out of memory for the tables of a second cache.");
	kv_free_tables(fork);
	return NULL;
}

int kv_fork(struct kv *kv, struct kv **ret, struct err *e)
{
	struct kv *fork = alloc_fork(kv, e);

	assert(!kv->unproved);
	if (!fork)
		return SINK_ENOMEM;
	fork->tokens = kv->tokens;
	fork->reached = kv->reached;
	fork->text = kv->text;
	fork->marks_below = kv->marks_below;
	fork->sure = kv->sure;
	memcpy(fork->due, kv->due, sizeof(kv->due));
	fork->dues = kv->dues;
	fork->absent = kv->absent;
	fork->past = kv->past;
	fork->past.at = fork->marks;
	if (kv->marks) {
		memcpy(fork->marks, kv->marks, (size_t)(kv->past.mask + 1) * sizeof(*kv->marks));
		memcpy(fork->is_mark, kv->is_mark, (size_t)kv->marks_below / 8 + 1);
	}
	for (int r = 0; r < RUNS; r++) {
		fork->runs[r].rows = kv->runs[r].rows;
		for (int64_t i = 0; i < kv->runs[r].ring; i++) {
			if (!kv->runs[r].page[i])
				continue;
			arena_share(kv->a, kv->runs[r].page[i]);
			fork->runs[r].page[i] = kv->runs[r].page[i];
			fork->runs[r].entry[i] = kv->runs[r].entry[i];
		}
	}
	record_save(fork);
	*ret = fork;
	return 0;
}

bool kv_holds(const struct kv *kv, int run, int64_t number)
{
	const struct run_pages *p = &kv->runs[run];

	return p->page[number % p->ring] && p->entry[number % p->ring].number == number;
}

/* Whether all rows of a stretch of slots are there. */
static bool holds_slots(const struct kv *kv, int run, int64_t first, int64_t past)
{
	for (int64_t p = first / PAGE_TOKENS; first < past && p <= (past - 1) / PAGE_TOKENS; p++)
		if (!kv_holds(kv, run, p))
			return false;
	return true;
}

/*
 * Whether a text of `count` tokens can go on from here, `marks` of them being marks: what is held once they were read;
 * the copies of the marks in the window too, which are seen when they have left it; and the pages that will be written
 * on, since a page that is there has all its rows.
 */
bool kv_holds_text(const struct kv *kv, int64_t count, int64_t marks)
{
	const int64_t mark_page = marks / PAGE_TOKENS * PAGE_TOKENS, page = count / PAGE_TOKENS * PAGE_TOKENS;
	struct view v;

	if (count == 0)
		return true;
	if (!policy_knows(&kv->o.policy, &kv->past, count - 1))
		return false;
	policy_held(&kv->o.policy, &kv->past, count - 1, &v);
	return holds_slots(kv, RUN_KEPT, v.kept_first < mark_page ? v.kept_first : mark_page, marks) &&
	       (count <= kv->o.policy.sinks || holds_slots(kv, RUN_WINDOW, v.window < page ? v.window : page, count));
}

int64_t kv_marks_before(const struct kv *kv, int64_t marks, int64_t count)
{
	while (marks > kv->past.first && kv->past.at[(marks - 1) & kv->past.mask] >= count)
		marks--;
	return marks;
}

int kv_rewind(struct kv *kv, const int32_t *log, int64_t count, struct err *e)
{
	const bool anew = policy_begins_anew(&kv->o.policy);
	int64_t marks;

	assert(!kv->unproved);
	if (count < 0 || count > kv->reached)
		return err_set(e, SINK_EINVAL, "The cache has read %lld tokens; it cannot go back to %lld.",
			       (long long)kv->reached, (long long)count);
	marks = kv_marks_before(kv, kv->past.end, count);
	if (count < kv->reached && !anew && !kv_holds_text(kv, count, marks))
		return err_set(e, SINK_EGONE, "What token %lld saw has left the cache.", (long long)count - 1);
	if (!anew && (log || count < kv->tokens))
		kv->text = log || count == 0 ? kv_text(0, log, (size_t)count) : 0;
	kv->tokens = kv->reached = count;
	kv->past.end = marks;
	if (count == 0)
		kv->past.first = kv->past.end = 0;
	if (anew) /* its rows are read again */
		kv->tokens = kv->past.begin = count > kv->o.policy.window ? count - kv->o.policy.window : 0;
	record_went_back(kv, log);
	keep_pages(kv, RUN_PINNED, 0, pages_for(count));
	keep_pages(kv, RUN_KEPT, 0, pages_for(kv->past.end));
	keep_pages(kv, RUN_WINDOW, 0, anew ? 0 : pages_for(count));
	return 0;
}

int64_t kv_aim(struct kv *kv, int64_t end)
{
	int64_t begin = end > kv->o.policy.window ? end - kv->o.policy.window : 0;

	if (policy_begins_anew(&kv->o.policy) && kv->past.begin != begin) {
		keep_pages(kv, RUN_WINDOW, 0, 0);
		kv->tokens = kv->past.begin = begin;
	}
	return kv->tokens;
}

void kv_info(const struct kv *kv, struct kv_info *ret)
{
	kv_info_at(kv, kv->reached, ret);
}

void kv_info_at(const struct kv *kv, int64_t count, struct kv_info *ret)
{
	struct view v = { 0 };

	assert(count <= kv->reached);
	if (count)
		policy_held(&kv->o.policy, &kv->past, count - 1, &v);
	*ret = (struct kv_info){ .tokens = count,
				 .pinned = v.pinned,
				 .kept = v.kept_count,
				 .window = v.window_count,
				 .evicted = count - view_size(&v),
				 .evicted_end = v.window };
	for (int r = 0; r < RUNS; r++)
		for (int64_t i = 0; i < kv->runs[r].ring; i++)
			ret->pages += kv->runs[r].page[i] != NULL;
	ret->bytes = ret->pages * arena_page_bytes(kv->a);
}

const struct policy *kv_policy(const struct kv *kv)
{
	return &kv->o.policy;
}

size_t kv_room(const struct kv *kv)
{
	int64_t left = INT64_MAX;

	if (policy_begins_anew(&kv->o.policy))
		left = kv->past.begin + kv->o.policy.window - kv->tokens;
	else if (!policy_is_endless(&kv->o.policy))
		left = kv->o.limit - kv->tokens;
	return left < (int64_t)kv->o.step ? (size_t)left : kv->o.step;
}

/* What token t sees, one of the step at hand or before it. */
static void see(const struct kv *kv, int64_t t, struct view *ret)
{
	struct past past = kv->past;

	past.end += kv->coming;
	policy_view(&kv->o.policy, &past, t, ret);
}

/* The run that token t is written to; its slot there is t in both. */
static int run_of(const struct kv *kv, int64_t t)
{
	return t < kv->o.policy.sinks ? RUN_PINNED : RUN_WINDOW;
}

/* Whether page `number` of a run must be taken from the arena before it can be written. */
static bool wants_page(const struct kv *kv, int run, int64_t number)
{
	const struct run_pages *p = &kv->runs[run];
	const void *page = p->page[number % p->ring];

	return !page || arena_is_shared(kv->a, page);
}

/*
 * Makes page `number` of a run this cache's own, with the rows that it holds already; those from `from` on will be
 * written. At no moment does the record say more than is true: the seal goes first, since rows will be written; an
 * entry names its page when all else is set.
 */
static void own_page(struct kv *kv, int run, int64_t number, size_t from)
{
	struct mirror *m = arena_mirror(kv->a);
	struct run_pages *p = &kv->runs[run];
	int64_t i = number % p->ring;
	struct record_entry *entry = &p->entry[i];
	void *before = p->page[i];
	bool goes_on = before && entry->number == number;

	entry->sealed = 0;
	if (wants_page(kv, run, number)) {
		p->page[i] = arena_take(kv->a);
		if (goes_on)
			arena_copy(kv->a, p->page[i], before);
		if (goes_on && m)
			mirror_copied(m, p->page[i], before, checkpoint_needs(kv, run, number));
	}
	if (m)
		mirror_touch(m, p->page[i], goes_on ? from : 0);
	record_settled();
	if (!goes_on) {
		entry->page = 0;
		record_settled();
		entry->number = number;
		record_settled();
	}
	entry->page = arena_number(kv->a, p->page[i]) + 1;
	record_settled();
	if (before && before != p->page[i])
		arena_drop(kv->a, before);
}

/* Pages that slots first .. past-1 of a run want; with `own`, they are taken. */
static size_t want_slots(struct kv *kv, int run, int64_t first, int64_t past, bool own)
{
	size_t need = 0;

	for (int64_t p = first / PAGE_TOKENS; first < past && p <= (past - 1) / PAGE_TOKENS; p++) {
		need += wants_page(kv, run, p);
		if (own)
			own_page(kv, run, p, first > p * PAGE_TOKENS ? (size_t)(first - p * PAGE_TOKENS) : 0);
	}
	return need;
}

void kv_writes(const struct kv *kv, int64_t end, int run, int64_t *first, int64_t *past)
{
	const int64_t sinks = kv->o.policy.sinks, t = kv->tokens;

	*first = run == RUN_KEPT ? kv->past.end : run == RUN_PINNED || t > sinks ? t : sinks;
	*past = run == RUN_KEPT ? kv->past.end + kv->coming : run == RUN_WINDOW || end < sinks ? end : sinks;
}

static size_t want_step(struct kv *kv, int64_t end, bool own)
{
	int64_t first, past;
	size_t need = 0;

	for (int run = 0; run < RUNS; run++) {
		kv_writes(kv, end, run, &first, &past);
		need += want_slots(kv, run, first, past, own);
	}
	return need;
}

/* Notes a mark of the tokens at hand; the oldest place makes room for it. */
static void note_mark(struct kv *kv, int64_t t)
{
	int64_t m = kv->past.end + kv->coming++;

	kv->marks[m & kv->past.mask] = t;
	if (m - kv->past.first > kv->past.mask)
		kv->past.first = m - kv->past.mask;
}

void kv_note_marks(struct kv *kv, const int32_t *token, size_t count)
{
	kv->coming = 0;
	for (size_t i = 0; kv->marks && i < count; i++)
		if (token[i] >= 0 && token[i] < kv->marks_below && kv->is_mark[token[i] / 8] >> token[i] % 8 & 1)
			note_mark(kv, kv->tokens + (int64_t)i);
}

int kv_reserve(struct kv *kv, const int32_t *token, size_t count, struct err *e)
{
	const int64_t end = kv->tokens + (int64_t)count;

	assert(count <= kv_room(kv) && !kv->unproved);
	kv_note_marks(kv, token, count);
	if (want_step(kv, end, false) > arena_pages_free(kv->a))
		return err_set(e, SINK_EBUSY, "The cache has no page left: all %zu are in use.", arena_pages(kv->a));
	checkpoint_before(kv, token, count);
	want_step(kv, end, true);
	kv->text_coming = kv->text ? kv_text(kv->tokens ? kv->text : 0, token, count) : 0;
	return 0;
}

/* The number of the mark that token t of the step at hand is; -1: it is none. */
static int64_t mark_number(const struct kv *kv, int64_t t)
{
	int64_t lo = kv->past.end, hi = kv->past.end + kv->coming;

	while (lo < hi) {
		int64_t mid = lo + (hi - lo) / 2;

		if (kv->past.at[mid & kv->past.mask] < t)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < kv->past.end + kv->coming && kv->past.at[lo & kv->past.mask] == t ? lo : -1;
}

void kv_row(const struct kv *kv, size_t i, struct row *row, int64_t key_at[2], int64_t query_at[RUNS])
{
	const int64_t t = kv->tokens + (int64_t)i, mark = mark_number(kv, t);
	const bool text = kv->o.positions == POSITIONS_TEXT;
	const int run = run_of(kv, t);
	struct view v;

	see(kv, t, &v);
	memset(row, 0, sizeof(*row));
	row->tables = kv->tables;
	row->sees[RUN_PINNED].first = v.pinned_first;
	row->sees[RUN_PINNED].count = v.pinned;
	row->sees[RUN_KEPT].first = v.kept_first;
	row->sees[RUN_KEPT].count = v.kept_count;
	row->sees[RUN_WINDOW].first = v.window;
	row->sees[RUN_WINDOW].count = v.window_count;
	row->goes[0].run = run;
	row->goes[0].slot = t;
	row->goes[1].run = mark >= 0 && run == RUN_WINDOW ? RUN_KEPT : -1;
	row->goes[1].slot = mark >= 0 ? mark : 0;
	key_at[0] = run == RUN_PINNED ? t : t + kv->o.origin;
	key_at[1] = text || mark < 0 ? t : mark;
	query_at[RUN_PINNED] = text ? t : v.pinned_first + view_size(&v) - 1;
	query_at[RUN_KEPT] = text ? t : v.kept_first + v.kept_count + v.window_count - 1;
	query_at[RUN_WINDOW] = t + kv->o.origin;
	for (int r = 0; r < RUNS; r++)
		row->sees[r].query = query_at[r] - (r == RUN_WINDOW ? kv->o.origin : 0);
}

bool kv_is_far(const struct kv *kv)
{
	return kv->far;
}

bool kv_tells_distances(const struct kv *kv)
{
	return kv->o.positions == POSITIONS_CACHE || policy_marking(&kv->o.policy) == MARKING_NONE;
}

/* The first slot from `first` on, `count` of them, that does not lie below place `least` of the text. */
static int64_t first_from(const struct kv *kv, int run, int64_t first, int64_t count, int64_t least)
{
	int64_t lo = first, hi = first + count;

	while (lo < hi) {
		const int64_t mid = lo + (hi - lo) / 2,
			      place = run == RUN_KEPT ? kv->past.at[mid & kv->past.mask] : mid;

		if (place < least)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void kv_row_near(const struct kv *kv, size_t i, int64_t window, const struct row *row, struct row *ret)
{
	const int64_t least = kv->tokens + (int64_t)i - window + 1;

	*ret = *row;
	for (int r = 0; r < RUNS; r++) {
		const int64_t first = row->sees[r].first, count = row->sees[r].count;

		ret->sees[r].first = first_from(kv, r, first, count, least);
		ret->sees[r].count = first + count - ret->sees[r].first;
	}
}

/* Gives up the pages that no token sees to which the cache may go back. */
static void give_up_pages(struct kv *kv)
{
	const bool anchors = policy_marking(&kv->o.policy) == MARKING_ANCHORS;
	/* kv_rewind() may go there at least */
	const int64_t back = checkpoint_back(kv, kv->tokens - (int64_t)kv->o.step);
	struct view v;

	if (back < 1)
		return;
	policy_held(&kv->o.policy, &kv->past, back - 1, &v);
	keep_pages(kv, RUN_KEPT, v.kept_first / PAGE_TOKENS, INT64_MAX);
	if (anchors)
		keep_pages(kv, RUN_WINDOW, v.window / PAGE_TOKENS, INT64_MAX);
}

void kv_commit(struct kv *kv, size_t count)
{
	const int64_t t = kv->tokens, marks = kv->past.end;

	kv->tokens += (int64_t)count;
	kv->reached = kv->tokens > kv->reached ? kv->tokens : kv->reached;
	kv->past.end += kv->coming;
	kv->coming = 0;
	kv->text = kv->text_coming;
	record_went_on(kv, t, marks);
	if (kv->marks)
		give_up_pages(kv);
}
