/*
 * From logits to a token. The order is: tokens that are not allowed are left out, penalties, temperature, top-k, top-p,
 * min-p, draw.
 *
 * Draws come from a counter-based generator (Philox 4x32-10, Salmon et al. 2011) keyed by (seed, position of the token
 * in its conversation): there is no state to lose, and a conversation that is taken up again goes on with the same
 * words. Temperature 0 takes the largest logit (the lowest id among equals) after penalties.
 */
#ifndef ENGINE_SAMPLE_H
#define ENGINE_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "guide.h"
#include "kernels.h"

struct sampling {
	double temperature;	   /* 0..100 */
	int64_t top_k;		   /* 0: off */
	double top_p;		   /* (0, 1]; 1: off */
	double min_p;		   /* [0, 1); 0: off */
	double repetition_penalty; /* (0, 10]; 1: off */
	double presence_penalty;   /* -10..10; 0: off */
	double frequency_penalty;  /* -10..10; 0: off */
	int64_t penalty_last;	   /* tokens that the penalties look back on, 0..8192 */
	uint64_t seed;
};

/* temperature 0.7, top_k 40, top_p 0.95, min_p 0.05, no penalties, penalty_last 64, seed 0 */
void sampling_defaults(struct sampling *s);

/* SINK_EINVAL naming the first field that is out of its range (NaN is). */
int sampling_check(const struct sampling *s, struct err *e);

struct sampler; /* scratch for one thread */

int sampler_new(size_t vocab, struct sampler **ret, struct err *e);
void sampler_free(struct sampler *s); /* NULL is fine */

/*
 * Picks the token for `position`. `recent` are the conversation's last tokens (the penalties use the last
 * penalty_last of them). *logprob (may be NULL) is the natural log-probability of the pick under the plain softmax of
 * the logits, before any of the settings.
 */
int32_t sampler_pick(struct sampler *s, const struct sampling *how, const float *logits, int64_t position,
		     const int32_t *recent, size_t recents, double *logprob);

/* The same among the tokens of `mask` (NULL: all), of which there is one at least. */
int32_t sampler_pick_masked(struct sampler *s, const struct sampling *how, const struct mask *mask, const float *logits,
			    int64_t position, const int32_t *recent, size_t recents, double *logprob);

/*
 * The same from the largest logits alone, where they decide it: the same token. They do if the temperature is 0 or
 * top_k is at most TOP_MOST, and penalties neither lift tokens nor push so many of these down that others come in; else
 * SAMPLER_UNDECIDED, and all logits must be asked.
 */
enum { SAMPLER_UNDECIDED = -1 };
int32_t sampler_pick_top(struct sampler *s, const struct sampling *how, const struct top *top, int64_t position,
			 const int32_t *recent, size_t recents, double *logprob);

/* Natural log-probability of `token` under softmax(logits[n]); sums in double. */
double logits_logprob(const float *logits, size_t n, int32_t token);

/* Tokens with their log-probabilities: the likeliest first, of equals the lowest id. */
enum { LIKELIEST_MOST = 20 };

struct likeliest {
	size_t count;
	struct {
		double logprob;
		int32_t id;
	} at[LIKELIEST_MOST + 1];
};

/*
 * The `most` likeliest tokens, at most LIKELIEST_MOST, and behind them `token` where it is none of them; returns its
 * log-probability, the same as logits_logprob().
 */
double logits_likeliest(const float *logits, size_t n, size_t most, int32_t token, struct likeliest *ret);

/* The same from the largest logits alone, of which `token` is one. */
double logits_likeliest_top(const struct top *top, size_t most, int32_t token, struct likeliest *ret);

/*
 * XXH3-64 of the bytes of logits[n], seeded with `before`: chained over rows it tells whether two runs gave the same
 * bits.
 */
uint64_t logits_checksum(const float *logits, size_t n, uint64_t before);

/* Philox 4x32-10; exposed for its test vectors. */
void philox(const uint32_t key[2], const uint32_t counter[4], uint32_t ret[4]);

#endif
