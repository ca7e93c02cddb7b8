/*
 * Which conversations move in the next step, and how far. Pure: it knows no model, no socket and no clock.
 *
 * A runner is whoever has tokens to be read: a conversation that answers takes one row a step, always; one that reads a
 * prompt (and a `score`) takes chunks of the rows that are left, in turns. While somebody answers, a step is kept as
 * short as `gap` milliseconds by the size of the chunks, which follows the measured time of a row: so a prompt of any
 * length delays a stream by no more than that. When nobody answers, steps may last READ_GAPS times as long.
 *
 * A stream may have drafts read behind its token (draft.h). As many are taken, over all streams, as make the tokens
 * that are to be expected of a step the most for its time (pace.h): where rows are dear or drafts seldom right, none.
 */
#ifndef DAEMON_SCHED_H
#define DAEMON_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "draft.h"
#include "pace.h"

enum { SCHED_STEPS = 1000, SCHED_BUCKETS = 24, READ_GAPS = 3, SCHED_DRAFTS = 32, DRAFTS_AUTO = -1 };

enum rows_wanted { ROWS_NONE, ROWS_LAST, ROWS_ALL }; /* which rows of a runner want logits */

struct runner {
	TAILQ_ENTRY(runner) link;
	bool listed;
	int kind; /* the owner's, as is what it points to */
	void *owner;

	/* Set before sched_plan(). */
	bool streams;	 /* a token of an answer that somebody may be watching */
	int64_t waiting; /* tokens to be read; 0: it sits this step out */
	int64_t room;	 /* most of them that one step may take */
	enum rows_wanted wants;
	size_t drafts;		   /* of a stream: tokens that may follow */
	double chance[DRAFT_MOST]; /* of each, when those before it are right */

	size_t take; /* out: tokens of the next step, drafts included */
};

struct sched {
	TAILQ_HEAD(runner_list, runner) runners;
	size_t count;
	size_t max_rows, max_logits;
	double gap;	/* ms */
	int64_t drafts; /* most of a stream; DRAFTS_AUTO: as many as pay */
	struct pace pace;
	double row_ms;	/* of a row in a step with a prompt; 0: not known yet */
	size_t chunk;	/* the largest chunk so far, which the next at most doubles; at first a guess */
	size_t granted; /* rows of prompts that the last step was allowed */
	float step_ms[SCHED_STEPS];
	int64_t steps;
	double sum_ms;			/* of all steps */
	uint64_t bucket[SCHED_BUCKETS]; /* of all steps: number i counts those below 2^(i - 4) ms, not in one before */
};

struct sched_times {
	double median, p99, max;
};

void sched_init(struct sched *s, size_t max_rows, size_t max_logits, double gap);
void sched_add(struct sched *s, struct runner *r);    /* nothing happens when it is listed */
void sched_remove(struct sched *s, struct runner *r); /* or is not */

/*
 * Chooses at most `most` runners for a step and sets their `take`. Those chosen go to the end of the list. Returns how
 * many; 0: nobody has anything to read.
 */
size_t sched_plan(struct sched *s, struct runner **chosen, size_t most);

/* What a step of `rows` took, `prompts` of them of chunks. */
void sched_learn(struct sched *s, size_t rows, size_t prompts, double ms);

/* Over the last SCHED_STEPS steps; zeros when there was none. */
void sched_times(const struct sched *s, struct sched_times *ret);

#endif
