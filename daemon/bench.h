/*
 * sinkd-bench: the engine without the daemon. bench.c reads the command line by its tables and ends the process; a verb
 * is one function that returns 0 or an error code; what it finds goes into a report, as JSON or as a table.
 */
#ifndef SINKD_BENCH_H
#define SINKD_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "error.h"
#include "model.h"

enum { BENCH_LIST = 32 }; /* most numbers of a list */

/* A list of numbers with commas, as --budget takes it. */
struct bench_list {
	int64_t at[BENCH_LIST];
	size_t count;
};

struct bench {
	const char *model, *text, *nll_file, *tsv, *prompts;
	const char *policy, *policies, *positions, *device, *kernels, *precision, *kv;
	const char *shape, *type, *out;	     /* of a model that is made */
	const char *separator_ids, *anchors; /* a file or a list of ids; NULL: the vocabulary's own */
	enum precision activations;
	int64_t tokens, sinks, window, separators, sink_token, chunk, start, threads;
	int64_t every, by, timed;
	struct bench_list budget, back;
	int64_t prompt, decode, depth, batch, repeat;
	int64_t lines, answer;
	int64_t layers, seed;
	int64_t gpu_memory, invariant;	   /* MiB; a flag */
	int64_t bandwidth;		   /* GB/s; 0: to be measured */
	int64_t json, save, help, version; /* flags, 0 or 1 */
	struct policy chosen;		   /* policy, sinks, window and separators as one */
};

int bench_perplexity(const struct bench *o, struct err *e);
int bench_compare(const struct bench *o, struct err *e);
int bench_sinks(const struct bench *o, struct err *e);
int bench_streameval(const struct bench *o, struct err *e);
int bench_chat(const struct bench *o, struct err *e);
int bench_latency(const struct bench *o, struct err *e);
int bench_tokenize(const struct bench *o, struct err *e);
int bench_throughput(const struct bench *o, struct err *e);
int bench_restore(const struct bench *o, struct err *e);
int bench_roofline(const struct bench *o, struct err *e);
int bench_load(const struct bench *o, struct err *e);
int bench_make_random(const struct bench *o, struct err *e);
int bench_check_random(const struct bench *o, struct err *e); /* SINK_EINVAL for options that it cannot make */

/* What to say of a policy that this model was not trained for, or NULL. */
const char *bench_note(const struct model *m, const struct policy *p);

/* Common to the verbs (bench_common.c). */

/* SINK_ENOENT for a file that is absent, SINK_EFORMAT for a model that cannot be loaded. */
int bench_open(const struct bench *o, size_t max_rows, size_t max_logits, bool vocabulary_only, struct model **ret,
	       struct err *e);

/* An empty cache of this policy, otherwise as the options say; one whose policy has an end holds `limit` tokens. */
int bench_cache(const struct bench *o, const struct policy *p, struct model *m, size_t step, int64_t limit,
		struct kv **ret, struct err *e);

/* All that `f` holds, with a NUL behind it; *ret is from malloc(). */
int bench_read(FILE *f, const char *name, char **ret, size_t *size, struct err *e);

/*
 * The tokens of a text file, BOS first where the model's file asks for it, and before it the sink token that was asked
 * for. SINK_EINVAL when there are fewer than two.
 */
int bench_text(const struct bench *o, const struct model *m, struct tokens *ret, struct err *e);

/* One slice through the model; its own status counts as the step's. */
int bench_step(struct model *m, struct kv *kv, const int32_t *token, size_t count, enum logits logits, struct err *e);

/*
 * Reads what the cache has yet to read of the text's first `end` tokens, in steps of at most `chunk`, from where its
 * policy wants to begin (kv_aim()); the logits of the last one are row 0 afterwards.
 */
int bench_read_to(struct model *m, struct kv *kv, const int32_t *id, int64_t end, size_t chunk, struct err *e);

/* The same up to token t; *nll is the negative log-probability of token t + 1. */
int bench_predict(struct model *m, struct kv *kv, const int32_t *id, int64_t t, size_t chunk, double *nll,
		  struct err *e);

/* What the machine does at best with the kernels and threads of the options (kernels.h). */
int bench_machine(const struct bench *o, bool brief, struct roofline *ret, struct err *e);

double bench_seconds(void); /* of a clock that only goes forward */
int64_t bench_resident_kib(void);

/* `n` numbers whose memory is resident already, each NaN; SINK_ENOMEM. */
int bench_numbers(size_t n, double **ret, struct err *e);

/* The q-quantile, 0..1, of n numbers; sorts a copy. 0 when there are none, or no memory for it. */
double bench_quantile(const double *x, size_t n, double q);
double bench_mean(const double *x, size_t n);

/*
 * A report (bench_report.c): fields, then perhaps rows. As JSON it is one object with the rows in an array "rows"; for
 * people it is a list and a table.
 */
struct report {
	bool json;
	bool began, in_row;
	int rows;
	char head[1024], line[1024];
	FILE *tsv; /* the rows go here too, with tabs between; NULL: nowhere */
	char tsv_head[512], tsv_line[512];
};

void report_begin(struct report *r, bool json);
void report_text(struct report *r, const char *name, const char *value);
void report_count(struct report *r, const char *name, int64_t value);
void report_number(struct report *r, const char *name, int decimals, double value); /* null when not finite */
void report_list(struct report *r, const char *name, int decimals, const double *value, size_t n);
void report_row(struct report *r); /* the fields that follow make a row */
void report_end(struct report *r);

/* What a kind of work asks of the machine, and what the machine gives (bench_bound.c). */
struct demand {
	double tokens;	   /* of a step, over all conversations */
	double bytes;	   /* that a step must read: packed weights, and the rows of the caches that are in sight */
	double operations; /* of a token: a multiplication and its addition count as two */
};

struct limits {
	double before, after; /* bytes a second from memory, measured twice around the work, or as told */
	double peak;	      /* operations a second */
};

/* `tokens` more in each conversation, that hold what `kv` does; at most `step` tokens a step, 1: they are decoded. */
struct demand bench_demand(const struct bench *o, const struct model *m, const struct kv *kv, int64_t tokens,
			   int64_t step);

/* To be called twice, *l all zeros at first. */
int bench_limits(const struct bench *o, const struct model *m, struct limits *l, struct err *e);
void report_limits(struct report *r, const struct limits *l);
void report_bound(struct report *r, const struct limits *l, const struct demand *d, double per_s);

/* Model, kernels, precision, threads and positions, as every report begins (bench_common.c). */
void bench_report(const struct bench *o, const struct model *m, struct report *r);

#endif
