/*
 * What the daemon tells its service manager, and what it is given by it (sd_notify(3), sd_listen_fds(3),
 * sd_watchdog_enabled(3)). Two files have these functions: notify.c by libsystemd, notify_socket.c without it;
 * the makefile takes one. What both know about descriptors is in listen.c. Without a service manager all of them do
 * nothing.
 */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"

/* Sends assignments such as "READY=1" or "STATUS=…", one a line. A manager that cannot be reached is no error. */
void notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "RELOADING=1" with the monotonic time that the manager wants beside it; READY=1 ends it. */
void notify_reloading(void);

/* The names under which this daemon keeps descriptors: its listening socket; its caches (arena.h), in two memfds. */
#define NOTIFY_LISTEN "sinkd-listen"
#define NOTIFY_PAGES "sinkd-pages"
#define NOTIFY_RECORDS "sinkd-records"

/* Descriptors that were passed in, all close-on-exec, the caller's from now on; -1: none. */
struct notify_fds {
	int listen;	  /* a listening unix stream socket */
	bool listen_ours; /* it is one that an earlier daemon has kept, and none of a socket unit */
	int pages, records;
	char note[256]; /* for the log: what else came, or "" */
};

/*
 * Takes what was passed in, and its variables out of the environment. A listening socket under a name that is not one
 * of ours is the socket unit's; when it comes, ours is given up. Everything else, and what comes twice, is closed and
 * forgotten by the manager. SINK_EINVAL: more than one socket of the unit.
 */
int notify_take_fds(struct notify_fds *ret, struct err *e);

/* Whether there is a manager that keeps descriptors. One that keeps too few may drop them and not say so. */
bool notify_keeps_fds(void);

/*
 * Gives the manager a duplicate, to be passed in at the next start whatever ends this process, in place of all that it
 * keeps under the name. The descriptor stays the caller's. SINK_EIO: it was not sent.
 */
int notify_keep_fd(const char *name, int fd);

/* The manager closes all that it keeps under the name. */
void notify_forget_fd(const char *name);

/* Microseconds within which "WATCHDOG=1" must come again and again; 0: nobody watches. */
uint64_t notify_watchdog_usec(void);

#endif
