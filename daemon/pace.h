/*
 * What a step of so many rows takes, where each row is a token of an answer: what it costs to have drafts read with
 * them. Measured, since machines differ: a step of one row waits for memory, and some get the next rows for little.
 */
#ifndef DAEMON_PACE_H
#define DAEMON_PACE_H

#include <stddef.h>

enum { PACE_ROWS = 64 };

struct pace {
	double ms[PACE_ROWS + 1];    /* by rows; 0: never measured */
	double trust[PACE_ROWS + 1]; /* 1 when it was just measured; fades */
};

void pace_learn(struct pace *p, size_t rows, double ms);

/* Ms that a step of so many rows, 1 and up, will take; 0: not known. Never less than one of fewer rows. */
double pace_of(const struct pace *p, size_t rows);

#endif
