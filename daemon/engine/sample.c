/*
 * Sampling. Sets are cut by thresholds, not by sorting: top-k and top-p each find the last token, in the order "larger
 * logit first, then lower id", that still belongs to the set, by selection in expected linear time. The draw walks the
 * tokens of the set in the order of their ids, so that a difference in the last bits of some logit moves nothing else.
 *
 * Tokens that are not allowed are no candidates, so all goes as if they had a logit of minus infinity, but faster.
 *
 * Where top-k leaves no more tokens than a device tells of (TOP_MOST), they are sorted, and what follows is done in
 * that order: so a pick is the same whether all logits were looked at or the largest alone.
 */
#include "sample.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct candidate {
	float logit;
	int32_t id;
};

struct sampler {
	size_t vocab;
	float *logits;		      /* [vocab], finite, penalties applied */
	struct candidate *candidates; /* [vocab] */
	size_t total;		      /* of them, before top-k */
	double *weight;		      /* [vocab], by id */
	int32_t *count;		      /* [vocab], zero between calls */
};

void sampling_defaults(struct sampling *s)
{
	*s = (struct sampling){ .temperature = 0.7,
				.top_k = 40,
				.top_p = 0.95,
				.min_p = 0.05,
				.repetition_penalty = 1,
				.penalty_last = 64 };
}

int sampling_check(const struct sampling *s, struct err *e)
{
	if (!(s->temperature >= 0 && s->temperature <= 100))
		return err_set(e, SINK_EINVAL, "The temperature must be within 0 and 100.");
	if (s->top_k < 0)
		return err_set(e, SINK_EINVAL, "top_k must be 0 or more.");
	if (!(s->top_p > 0 && s->top_p <= 1))
		return err_set(e, SINK_EINVAL, "top_p must be above 0 and at most 1.");
	if (!(s->min_p >= 0 && s->min_p < 1))
		return err_set(e, SINK_EINVAL, "min_p must be 0 or more and below 1.");
	if (!(s->repetition_penalty > 0 && s->repetition_penalty <= 10))
		return err_set(e, SINK_EINVAL, "repetition_penalty must be above 0 and at most 10.");
	if (!(s->presence_penalty >= -10 && s->presence_penalty <= 10))
		return err_set(e, SINK_EINVAL, "presence_penalty must be within -10 and 10.");
	if (!(s->frequency_penalty >= -10 && s->frequency_penalty <= 10))
		return err_set(e, SINK_EINVAL, "frequency_penalty must be within -10 and 10.");
	if (s->penalty_last < 0 || s->penalty_last > 8192)
		return err_set(e, SINK_EINVAL, "penalty_last must be within 0 and 8192.");
	return 0;
}

int sampler_new(size_t vocab, struct sampler **ret, struct err *e)
{
	struct sampler *s;

	if (vocab < 1 || vocab > INT32_MAX)
		return err_set(e, SINK_EINVAL, "A vocabulary of %zu tokens cannot be sampled from.", vocab);
	s = calloc(1, sizeof(*s));
	if (s) {
		s->vocab = vocab;
		s->logits = calloc(vocab, sizeof(*s->logits));
		s->candidates = calloc(vocab, sizeof(*s->candidates));
		s->weight = calloc(vocab, sizeof(*s->weight));
		s->count = calloc(vocab, sizeof(*s->count));
	}
	if (!s || !s->logits || !s->candidates || !s->weight || !s->count) {
		sampler_free(s);
		return err_set(e, SINK_ENOMEM, "Out of memory for sampling from %zu tokens.", vocab);
	}
	*ret = s;
	return 0;
}

void sampler_free(struct sampler *s)
{
	if (!s)
		return;
	free(s->logits);
	free(s->candidates);
	free(s->weight);
	free(s->count);
	free(s);
}

/* A logit that arithmetic can be done with: not a number counts as impossible, infinities as the largest numbers. */
static float tame(float x)
{
	if (isnan(x))
		return -FLT_MAX;
	return x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x;
}

static float penalized(const struct sampling *how, float logit, int32_t count)
{
	double l = (double)logit;

	l = l > 0 ? l / how->repetition_penalty : l * how->repetition_penalty;
	l -= how->presence_penalty + how->frequency_penalty * count;
	return l > (double)FLT_MAX ? FLT_MAX : l < -(double)FLT_MAX ? -FLT_MAX : (float)l;
}

/* Counts each token among the last penalty_last; returns how many of `recent` they are, the last ones. */
static size_t count_recent(struct sampler *s, const struct sampling *how, const int32_t *recent, size_t recents)
{
	const size_t last = (size_t)how->penalty_last < recents ? (size_t)how->penalty_last : recents;

	for (size_t i = recents - last; i < recents; i++)
		if (recent[i] >= 0 && (size_t)recent[i] < s->vocab)
			s->count[recent[i]]++;
	return last;
}

/* Every token among the last penalty_last, once each, with its count. */
static void penalize(struct sampler *s, const struct sampling *how, const int32_t *recent, size_t recents)
{
	const size_t last = count_recent(s, how, recent, recents);

	if (last == 0)
		return;
	recent += recents - last;
	for (size_t i = 0; i < last; i++) {
		int32_t id = recent[i];

		if (id < 0 || (size_t)id >= s->vocab || s->count[id] == 0)
			continue;
		s->logits[id] = penalized(how, s->logits[id], s->count[id]);
		s->count[id] = 0;
	}
}

/* The first of the candidates, which are in the order of their ids, that none is larger than. */
static struct candidate largest(const struct candidate *c, size_t n)
{
	size_t best = 0;

	for (size_t i = 1; i < n; i++)
		if (c[i].logit > c[best].logit)
			best = i;
	return c[best];
}

/* The logits of the tokens that are allowed, tame. */
static void take_logits(struct sampler *s, const float *logits, const struct mask *mask)
{
	if (!mask)
		for (size_t i = 0; i < s->vocab; i++)
			s->logits[i] = tame(logits[i]);
	for (size_t w = 0; mask && w < (s->vocab + 63) / 64; w++)
		for (uint64_t bits = mask->bits[w]; bits; bits &= bits - 1) {
			const size_t i = 64 * w + (size_t)__builtin_ctzll(bits);

			s->logits[i] = tame(logits[i]);
		}
}

static void take_candidates(struct sampler *s, const struct mask *mask)
{
	s->total = 0;
	if (mask)
		memset(s->weight, 0, s->vocab * sizeof(*s->weight));
	for (size_t i = 0; !mask && i < s->vocab; i++)
		s->candidates[s->total++] = (struct candidate){ s->logits[i], (int32_t)i };
	for (size_t w = 0; mask && w < (s->vocab + 63) / 64; w++)
		for (uint64_t bits = mask->bits[w]; bits; bits &= bits - 1) {
			const size_t i = 64 * w + (size_t)__builtin_ctzll(bits);

			s->candidates[s->total++] = (struct candidate){ s->logits[i], (int32_t)i };
		}
}

/* The order of candidates: larger logit first, among equals the lower id. */
static bool before(struct candidate a, struct candidate b)
{
	return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void swap(struct candidate *a, struct candidate *b)
{
	struct candidate t = *a;

	*a = *b;
	*b = t;
}

/* Moves the candidates before a pivot of c[lo..hi) in front of it; returns where the pivot is then. */
static size_t partition(struct candidate *c, size_t lo, size_t hi)
{
	size_t mid = lo + (hi - lo) / 2, last = hi - 1, at = lo;

	/* the median of three becomes the last */
	if (before(c[mid], c[lo]))
		swap(&c[mid], &c[lo]);
	if (before(c[last], c[lo]))
		swap(&c[last], &c[lo]);
	if (before(c[mid], c[last]))
		swap(&c[mid], &c[last]);
	for (size_t i = lo; i < last; i++)
		if (before(c[i], c[last]))
			swap(&c[i], &c[at++]);
	swap(&c[at], &c[last]);
	return at;
}

/* Orders c[0..n) so that the first k come before the others. */
static void select_first(struct candidate *c, size_t n, size_t k)
{
	size_t lo = 0, hi = n;

	while (hi - lo > 1 && k > lo && k < hi) {
		size_t at = partition(c, lo, hi);

		if (at < k)
			lo = at + 1;
		else
			hi = at;
	}
}

/* The count of first candidates whose weights add up to `mass`; orders c as select_first() of that count. */
static size_t select_mass(struct sampler *s, size_t n, double mass)
{
	struct candidate *c = s->candidates;
	size_t lo = 0, hi = n;
	double below = 0; /* of c[0..lo) */

	while (hi - lo > 1) {
		size_t at = partition(c, lo, hi);
		double sum = 0;

		for (size_t i = lo; i < at; i++)
			sum += s->weight[c[i].id];
		if (at > lo && below + sum >= mass) {
			hi = at;
		} else if (below + sum + s->weight[c[at].id] >= mass) {
			return at + 1;
		} else {
			below += sum + s->weight[c[at].id];
			lo = at + 1;
		}
	}
	return hi;
}

/* Cuts the candidates by top-k, then top-p of what is left, then min-p; returns their number, at least 1. */
static size_t cut(struct sampler *s, const struct sampling *how, float max)
{
	size_t n = s->total;
	double total = 0;

	if (how->top_k > 0 && (uint64_t)how->top_k < n) {
		select_first(s->candidates, n, (size_t)how->top_k);
		n = (size_t)how->top_k;
	}
	for (size_t i = 0; i < n; i++) {
		struct candidate c = s->candidates[i];

		s->weight[c.id] = exp(((double)c.logit - (double)max) / how->temperature);
		total += s->weight[c.id];
	}
	if (how->top_p < 1)
		n = select_mass(s, n, how->top_p * total);
	if (how->min_p > 0) {
		size_t kept = 0;

		for (size_t i = 0; i < n; i++)
			if (s->weight[s->candidates[i].id] >= how->min_p)
				swap(&s->candidates[kept++], &s->candidates[i]);
		n = kept;
	}
	return n;
}

/* A number within 0 and 1, 1 excluded, that belongs to this seed and position. */
static double uniform(uint64_t seed, int64_t position)
{
	const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
	const uint32_t counter[4] = { (uint32_t)position, (uint32_t)((uint64_t)position >> 32), 0, 0 };
	uint32_t r[4];

	philox(key, counter, r);
	return ((double)(r[0] >> 5) * 67108864.0 + (double)(r[1] >> 6)) / 9007199254740992.0;
}

/* Draws from the first n candidates by their weights, walking in the order of the ids. */
static int32_t draw(struct sampler *s, size_t n, double u)
{
	double total = 0, sum = 0;
	size_t pick = 0;

	for (size_t i = n; i < s->total; i++)
		s->weight[s->candidates[i].id] = 0;
	for (size_t id = 0; id < s->vocab; id++)
		total += s->weight[id];
	for (size_t id = 0; id < s->vocab && !(u * total < sum); id++) {
		sum += s->weight[id];
		if (s->weight[id] > 0)
			pick = id;
	}
	return (int32_t)pick;
}

/* Orders c[0..n), a few. */
static void sort(struct candidate *c, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t at = i; at > 0 && before(c[at], c[at - 1]); at--)
			swap(&c[at], &c[at - 1]);
}

/* Orders c[0..n), a few, by their ids. */
static void sort_by_id(struct candidate *c, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t at = i; at > 0 && c[at].id < c[at - 1].id; at--)
			swap(&c[at], &c[at - 1]);
}

/* How many of the candidates, which are in order, top-p and then min-p leave; at least 1. */
static size_t cut_few(const struct sampling *how, const struct candidate *c, size_t n)
{
	double weight[TOP_MOST], total = 0, sum = 0;
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		total += weight[i] = exp(((double)c[i].logit - (double)c[0].logit) / how->temperature);
	if (how->top_p < 1) {
		while (kept < n && sum < how->top_p * total)
			sum += weight[kept++];
		n = kept;
	}
	while (n > 1 && weight[n - 1] < how->min_p)
		n--;
	return n;
}

/* cut() and draw() for at most TOP_MOST candidates that are in order. */
static int32_t draw_few(const struct sampling *how, struct candidate *c, size_t n, double u)
{
	const double max = (double)c[0].logit;
	double weight[TOP_MOST], total = 0, sum = 0;
	int32_t pick = c[0].id;

	n = cut_few(how, c, n);
	sort_by_id(c, n);
	for (size_t i = 0; i < n; i++)
		total += weight[i] = exp(((double)c[i].logit - max) / how->temperature);
	for (size_t i = 0; i < n && !(u * total < sum); i++) {
		sum += weight[i];
		if (weight[i] > 0)
			pick = c[i].id;
	}
	return pick;
}

/* How many of the first candidates the pick is among, before top-p and min-p. */
static size_t candidates_of(const struct sampler *s, const struct sampling *how)
{
	if (!(how->temperature > 0))
		return 1;
	return how->top_k > 0 && (uint64_t)how->top_k < s->vocab ? (size_t)how->top_k : s->vocab;
}

static int32_t pick_from_all(struct sampler *s, const struct sampling *how, int64_t position)
{
	const struct candidate top = largest(s->candidates, s->total);
	size_t n = candidates_of(s, how);

	if (!(how->temperature > 0))
		return top.id;
	n = n < s->total ? n : s->total;
	if (n > TOP_MOST)
		return draw(s, cut(s, how, top.logit), uniform(how->seed, position));
	select_first(s->candidates, s->total, n);
	sort(s->candidates, n);
	return draw_few(how, s->candidates, n, uniform(how->seed, position));
}

int32_t sampler_pick_masked(struct sampler *s, const struct sampling *how, const struct mask *mask, const float *logits,
			    int64_t position, const int32_t *recent, size_t recents, double *logprob)
{
	int32_t pick;

	take_logits(s, logits, mask);
	penalize(s, how, recent, recents);
	take_candidates(s, mask);
	pick = pick_from_all(s, how, position);
	if (logprob)
		*logprob = logits_logprob(logits, s->vocab, pick);
	return pick;
}

int32_t sampler_pick(struct sampler *s, const struct sampling *how, const float *logits, int64_t position,
		     const int32_t *recent, size_t recents, double *logprob)
{
	return sampler_pick_masked(s, how, NULL, logits, position, recent, recents, logprob);
}

/* Whether a penalty may make a logit larger. */
static bool lifts(const struct sampling *how)
{
	return how->repetition_penalty < 1 || how->presence_penalty < 0 || how->frequency_penalty < 0;
}

/* Penalizes the n candidates among the recent tokens; false if one that is not among them may have come in. */
static bool penalize_few(struct sampler *s, const struct sampling *how, size_t n, const int32_t *recent, size_t recents)
{
	const size_t last = count_recent(s, how, recent, recents);
	bool others = false;

	for (size_t i = 0; last && i < n; i++) {
		struct candidate *c = &s->candidates[i];

		if (s->count[c->id])
			c->logit = penalized(how, c->logit, s->count[c->id]);
		s->count[c->id] = 0;
	}
	for (size_t i = recents - last; i < recents; i++) {
		if (recent[i] < 0 || (size_t)recent[i] >= s->vocab)
			continue;
		others = others || s->count[recent[i]];
		s->count[recent[i]] = 0;
	}
	return !(others && lifts(how));
}

/* Takes over the candidates; false if one of them is no number to reckon with, or beside others that are none. */
static bool take_few(struct sampler *s, const struct top *top)
{
	for (int32_t i = 0; i < top->count; i++) {
		if (!(fabsf(top->logit[i]) < FLT_MAX))
			return false;
		s->candidates[i] = (struct candidate){ top->logit[i], top->id[i] };
	}
	return top->count > 0;
}

/*
 * All that are not among the candidates come behind the last of these as it was, and stay there. So the first ones are
 * known as far as they come before it, or are itself, when penalties have moved them.
 */
int32_t sampler_pick_top(struct sampler *s, const struct sampling *how, const struct top *top, int64_t position,
			 const int32_t *recent, size_t recents, double *logprob)
{
	const size_t n = candidates_of(s, how), count = (size_t)top->count;
	struct candidate last;
	int32_t pick;

	if (n > count || !take_few(s, top))
		return SAMPLER_UNDECIDED;
	last = s->candidates[count - 1];
	if (!penalize_few(s, how, count, recent, recents))
		return SAMPLER_UNDECIDED;
	sort(s->candidates, count);
	if (count < s->vocab && before(last, s->candidates[n - 1]))
		return SAMPLER_UNDECIDED;
	pick = how->temperature > 0 ? draw_few(how, s->candidates, n, uniform(how->seed, position))
				    : s->candidates[0].id;
	for (size_t i = 0; logprob && i < count; i++)
		if (top->id[i] == pick)
			*logprob = (double)top->logit[i] - (double)top->max - log(top->sum);
	return pick;
}

/* The largest of the logits, and the logarithm of the sum of e^(logit - max). */
static double normalize(const float *logits, size_t n, float *max)
{
	double sum = 0;

	*max = -FLT_MAX;
	for (size_t i = 0; i < n; i++)
		*max = tame(logits[i]) > *max ? tame(logits[i]) : *max;
	for (size_t i = 0; i < n; i++)
		sum += exp((double)tame(logits[i]) - (double)*max);
	return log(sum);
}

double logits_logprob(const float *logits, size_t n, int32_t token)
{
	float max;
	double norm = normalize(logits, n, &max);

	return (double)tame(logits[token]) - (double)max - norm;
}

/* Makes log-probabilities of the first candidates, and adds the token where it is none of them. */
static double explain(const struct candidate *c, size_t count, struct candidate token, float max, double norm,
		      struct likeliest *ret)
{
	bool among = false;

	ret->count = 0;
	for (size_t i = 0; i < count || !among; i++) {
		const struct candidate one = i < count ? c[i] : token;

		ret->at[ret->count].id = one.id;
		ret->at[ret->count++].logprob = (double)one.logit - (double)max - norm;
		among = among || one.id == token.id;
	}
	return (double)token.logit - (double)max - norm;
}

double logits_likeliest(const float *logits, size_t n, size_t most, int32_t token, struct likeliest *ret)
{
	struct candidate c[LIKELIEST_MOST + 1];
	size_t count = 0;
	float max;
	double norm = normalize(logits, n, &max);

	for (size_t i = 0; i < n; i++) {
		const struct candidate one = { tame(logits[i]), (int32_t)i };
		size_t at = count;

		if (count == most && !(most && before(one, c[most - 1])))
			continue;
		for (; at > 0 && before(one, c[at - 1]); at--)
			c[at] = c[at - 1];
		c[at] = one;
		count += count < most;
	}
	return explain(c, count, (struct candidate){ tame(logits[token]), token }, max, norm, ret);
}

double logits_likeliest_top(const struct top *top, size_t most, int32_t token, struct likeliest *ret)
{
	struct candidate c[LIKELIEST_MOST], chosen = { -FLT_MAX, token };
	const size_t count = (size_t)top->count < most ? (size_t)top->count : most;

	for (size_t i = 0; i < count; i++)
		c[i] = (struct candidate){ top->logit[i], top->id[i] };
	for (int32_t i = 0; i < top->count; i++)
		if (top->id[i] == token)
			chosen.logit = top->logit[i];
	return explain(c, count, chosen, top->max, log(top->sum), ret);
}

uint64_t logits_checksum(const float *logits, size_t n, uint64_t before)
{
	return XXH3_64bits_withSeed(logits, n * sizeof(*logits), before);
}

void philox(const uint32_t key[2], const uint32_t counter[4], uint32_t ret[4])
{
	uint32_t k0 = key[0], k1 = key[1];
	uint32_t c[4] = { counter[0], counter[1], counter[2], counter[3] };

	for (int round = 0; round < 10; round++) {
		uint64_t a = UINT64_C(0xD2511F53) * c[0], b = UINT64_C(0xCD9E8D57) * c[2];

		c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k0;
		c[1] = (uint32_t)b;
		c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k1;
		c[3] = (uint32_t)a;
		k0 += 0x9E3779B9;
		k1 += 0xBB67AE85;
	}
	memcpy(ret, c, sizeof(c));
}
