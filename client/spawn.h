/* Starting a daemon that nobody waits for. */
#ifndef CLIENT_SPAWN_H
#define CLIENT_SPAWN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct spawn {
	int pidfd;  /* readable once the daemon has ended; -1: the system cannot tell */
	off_t from; /* where its words begin in the log */
	char log[PATH_MAX];
};

/*
 * Waits until no other sink is starting a daemon. Returns a descriptor to close when this one has been started, -1 when
 * there is no place for a lock.
 */
int spawn_lock(void);

/* Starts sinkd for this endpoint and model ("" leaves the model to its configuration). An exit code of fail.h. */
int spawn_daemon(struct spawn *s, const char *endpoint, const char *model);
void spawn_release(struct spawn *s);
bool spawn_ended(const struct spawn *s);

/* A descriptor that is readable once the process has ended, whosever child it is; -1 when the system gives none. */
int spawn_watch(pid_t pid);

/* The last line that the daemon wrote to its log; false when there is none. */
bool spawn_last_line(const struct spawn *s, char *ret, size_t size);

#endif
