/*
 * One step: from who is to move (sched.h) to what came of it. The batch is built when all caches are at home, handed to
 * the engine's thread, and its results are carried out when it comes back.
 */
#ifndef DAEMON_STEP_H
#define DAEMON_STEP_H

#include "core.h"

enum { RUNS_CONVERSATION, RUNS_SCORE }; /* kinds of runners */

/* Builds a batch and hands it over, when nobody else is away and somebody has something to read. */
void step_begin(struct core *c);

/* The batch is back: the job's function. */
void step_done(struct job *j, void *owner);

#endif
