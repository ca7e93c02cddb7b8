/*
 * Owns the index of a text for drafts: for each three tokens in a row the last place behind them, and for each place
 * the one before it with the same hash. Both are rings over the last tokens; places are kept modulo 2^32, and since
 * tokens are compared before anything is believed, a wrong place does no harm.
 *
 * Two things are looked at: the latest places behind the same three tokens, of which the one with the longest equal
 * stretch before it is taken; and the place that follows the one of the last draft, since a text that is copied with
 * changes goes on behind a change where it would have gone on without it.
 */
#include "draft.h"

#include <stdlib.h>

enum {
	GRAM = 3,   /* tokens of a row that is looked up */
	PLACES = 8, /* of it that are compared */
	LOOK = 32,  /* tokens before them that are */
	ASTRAY = 8, /* tokens that do not agree until the place of the last draft is given up */
	SPAN_LEAST = 1024,
};

struct draft {
	uint32_t *last;	  /* [span] by hash: the last place */
	uint32_t *before; /* [span] by place: the one before it of this hash */
	size_t span;
	size_t first, known; /* the places that are in it */
	size_t source, at;   /* token `at` was last drafted from `source` */
	bool follows;
};

int draft_new(struct draft **ret, struct err *e)
{
	struct draft *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(e, SINK_ENOMEM, "Out of memory for drafts.");
	*ret = d;
	return 0;
}

void draft_free(struct draft *d)
{
	if (!d)
		return;
	free(d->last);
	free(d->before);
	free(d);
}

/* Begins anew, with room for a text of this length. */
static bool begin(struct draft *d, size_t count)
{
	size_t span = SPAN_LEAST;

	while (span < DRAFT_SPAN && span < 2 * count)
		span *= 2;
	free(d->last);
	free(d->before);
	d->last = calloc(span, sizeof(*d->last));
	d->before = calloc(span, sizeof(*d->before));
	d->span = d->last && d->before ? span : 0;
	d->first = count > span ? count - span : 0;
	d->known = d->first;
	return d->span > 0;
}

static size_t hash(const struct draft *d, const int32_t *behind)
{
	uint64_t h = 0;

	for (int i = 1; i <= GRAM; i++)
		h = (h ^ (uint32_t)behind[-i]) * UINT64_C(0x9E3779B97F4A7C15);
	return (size_t)(h >> 32) & (d->span - 1);
}

/* Takes in the places before `count`; false: not all of them yet. */
static bool learn(struct draft *d, const int32_t *log, size_t count)
{
	const size_t past = count - d->known > DRAFT_STRETCH ? d->known + DRAFT_STRETCH : count;

	for (; d->known < past; d->known++) {
		size_t h;

		if (d->known < d->first + GRAM)
			continue;
		h = hash(d, log + d->known);
		d->before[d->known & (d->span - 1)] = d->last[h];
		d->last[h] = (uint32_t)d->known;
	}
	return past == count;
}

/* A place of the text from how it is kept; 0: it is none, or has left the ring. */
static size_t place_of(const struct draft *d, size_t from, uint32_t kept)
{
	const size_t back = (uint32_t)from - kept;

	return back > 0 && back < d->span && back <= from - d->first ? from - back : 0;
}

static struct draft_match compare(const int32_t *log, size_t place, size_t count)
{
	struct draft_match m = { 0 };

	for (size_t i = 1; i <= LOOK && i <= place; i++) {
		const bool same = log[place - i] == log[count - i];

		m.agrees += same;
		m.suffix += same && m.suffix == i - 1;
	}
	return m;
}

/* The place that what follows may be taken from; 0: there is none. */
static size_t find(struct draft *d, const int32_t *log, size_t count, struct draft_match *best)
{
	const size_t followed = d->follows ? d->source + (count - d->at) : 0;
	size_t place = count, found = 0;
	uint32_t kept = d->last[hash(d, log + count)];

	*best = (struct draft_match){ 0 };
	if (followed && followed < count) {
		*best = compare(log, followed, count);
		found = followed;
	}
	for (int i = 0; i < PLACES && best->suffix < LOOK; i++) {
		struct draft_match m;

		place = place_of(d, place, kept);
		if (!place)
			break;
		m = compare(log, place, count);
		if (m.suffix >= GRAM && m.suffix > best->suffix) {
			*best = m;
			found = place;
		}
		kept = d->before[place & (d->span - 1)];
	}
	return found;
}

size_t draft_propose(struct draft *d, const int32_t *log, size_t count, size_t most, int32_t *out,
		     struct draft_match *match)
{
	size_t place;

	if (count < GRAM || !most)
		return 0;
	if ((count < d->known || !d->span || (d->span < DRAFT_SPAN && count > d->span)) && !begin(d, count))
		return 0;
	if (!learn(d, log, count))
		return 0;
	place = find(d, log, count, match);
	if (!place)
		return 0;
	if (match->suffix) {
		d->follows = true;
		d->source = place;
		d->at = count;
	} else if (count - d->at >= ASTRAY) {
		d->follows = false;
	}
	most = most < DRAFT_MOST ? most : DRAFT_MOST;
	for (size_t i = 0; i < most; i++) /* what repeats itself up to the end goes on so */
		out[i] = place + i < count ? log[place + i] : out[place + i - count];
	return most;
}

/* Kinds of matches: none behind a change, one or two tokens of it, and longer ones by their length. */
static const struct {
	float chance;
} kinds[DRAFT_KINDS] = {
	{ 0.1F },  { 0.3F },  { 0.6F }, /* no equal token before, but some further back */
	{ 0.2F },  { 0.4F },  { 0.7F }, /* one or two, likewise */
	{ 0.35F }, { 0.45F }, { 0.55F }, { 0.65F }, { 0.8F }, { 0.9F }, { 0.95F }, /* 3, 4, 5.., 7.., 11.., 19.., 32 */
	{ 0.85F },								   /* certain bytes */
	{ 0.8F }, /* 3 to 10 where most of those before agree too */
};

static int kind_of(const struct draft_match *m, size_t i)
{
	static const size_t lengths[] = { 4, 5, 7, 11, 19, LOOK };
	const size_t suffix = m->suffix + i, agrees = m->agrees + i;
	int kind = 0;

	if (m->certain)
		return DRAFT_KINDS - 2;
	if (suffix < GRAM)
		return (suffix ? 3 : 0) + (agrees < 8 ? 0 : agrees < 20 ? 1 : 2);
	if (suffix < 11 && agrees >= 20)
		return DRAFT_KINDS - 1;
	while (kind < 6 && suffix >= lengths[kind])
		kind++;
	return 6 + kind;
}

double draft_chance(const struct draft_odds *o, const struct draft_match *m, size_t i)
{
	const float usual = 2; /* what is usual counts as much as two trials */
	const int k = kind_of(m, i);

	return (double)((usual * kinds[k].chance + o->right[k]) / (usual + o->tried[k]));
}

void draft_learn(struct draft_odds *o, const struct draft_match *m, size_t tried, size_t right)
{
	const float most = 24, unused = 0.97F;
	int k = kind_of(m, 0);

	if (!tried) {
		o->tried[k] *= unused;
		o->right[k] *= unused;
	}
	for (size_t i = 0; i < tried; i++) {
		k = kind_of(m, i);
		if (o->tried[k] >= most) {
			o->tried[k] *= 0.5F;
			o->right[k] *= 0.5F;
		}
		o->tried[k] += 1;
		o->right[k] += i < right ? 1 : 0;
	}
}
