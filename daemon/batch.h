/*
 * The engine's jobs: loading the model, and one step for a batch of conversations with the sampling that follows it.
 * They run in the engine's thread (worker.h); what a batch points to is that thread's until it comes back.
 */
#ifndef DAEMON_BATCH_H
#define DAEMON_BATCH_H

#include "draft.h"
#include "guide.h"
#include "model.h"
#include "sample.h"
#include "usual.h"
#include "worker.h"

/* What is wanted of a slice's logits, beside the slice of the same number. */
struct entry {
	void *owner; /* the loop's: whose slice it is */
	bool picks;  /* the token that follows the slice's last one */
	struct sampling how;
	int64_t position;      /* of that token */
	const int32_t *recent; /* the tokens before it, in memory where drafts follow them */
	size_t recents;
	size_t drafts; /* the last tokens of the slice, which is held, are guesses of that token and of those behind */
	struct guide *guide; /* which tokens are allowed; NULL: all */
	int64_t left;	     /* tokens that the answer may have from that one on, when there is a guide */
	bool explains;	     /* log-probabilities are wanted too, which costs a walk over the vocabulary */
	size_t likeliest;    /* so many of the likeliest tokens are wanted as well */
	size_t picked;	     /* out: 1 and one for each draft that came true, with which the slice's count goes down */
	int rc;		     /* out: nothing may be picked behind those, and why */
	struct err err;
	int32_t token[1 + DRAFT_MOST];	/* out */
	double logprob[1 + DRAFT_MOST]; /* out; of each token */
	struct likeliest *explained;	/* out; for each token, when some are wanted */

	const int32_t
		*target;  /* not NULL: the tokens that follow each of the slice, whose log-probabilities are wanted */
	double *logprobs; /* out, [targets] */
	size_t targets;	  /* at most the slice's count */
};

struct batch {
	struct job job;
	struct model *model;
	struct sampler *sampler;
	struct slice *slice;
	struct entry *entry;
	size_t count, room;
	size_t rows, prompts; /* rows of all slices, and of those that read a prompt */
	int rc;		      /* out: of model_step() */
	struct err err;
	double ms; /* out: how long it took */
};

/* A batch for at most `room` slices, empty. `done` is called in the loop when it comes back. */
int batch_new(struct model *m, size_t room, void (*done)(struct job *j, void *owner), struct batch **ret,
	      struct err *e);
void batch_free(struct batch *b); /* NULL is fine */

struct load {
	struct job job;
	struct model_options options;
	bool identifies;     /* fingerprint and vocab are wanted */
	struct model *model; /* out */
	uint64_t fingerprint;
	uint64_t vocab; /* a hash of all tokens; never 0 */
	struct usual usual;
	int rc;
	struct err err;
	double ms;
};

/* The job's function. */
void load_run(struct job *j);

#endif
