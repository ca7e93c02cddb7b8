/*
 * A thread that runs jobs one after another, and gives each back to the loop. A job belongs to the worker from
 * worker_give() until worker_take() returns it, with all that it points to: ownership travels with the pointer, so
 * there are no locks. The pointers travel through pipes, which the loop can wait for beside its sockets.
 */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include "error.h"

struct job {
	void (*run)(struct job *j);		  /* in the worker's thread */
	void (*done)(struct job *j, void *owner); /* in the loop, afterwards */
};

struct worker;

/* Starts the thread under a name of at most 15 bytes. SINK_EIO, SINK_ENOMEM. */
int worker_new(const char *name, struct worker **ret, struct err *e);

/* Ends the thread after the jobs that it has; those that nobody took are dropped. NULL is fine. */
void worker_free(struct worker *w);

/* Readable when a finished job can be taken. */
int worker_fd(const struct worker *w);

/* Hands a job over. The pipe holds thousands; SINK_EBUSY when it is full, and the job stays the caller's. */
int worker_give(struct worker *w, struct job *j, struct err *e);

/* A finished job, or NULL when there is none. */
struct job *worker_take(struct worker *w);

#endif
