/*
 * The listening unix socket of an endpoint `ipc://PATH`: made by us under a lock, so that a second daemon on the same
 * path is refused and a stale file is no obstacle; or given by the service manager.
 */
#ifndef DAEMON_LISTEN_H
#define DAEMON_LISTEN_H

#include <stdbool.h>

#include "error.h"

struct listener {
	int fd;		/* listening, non-blocking; -1: none */
	int lock;	/* the open lock file, PATH.lock; -1: none */
	char path[108]; /* of the socket file that is ours to remove, or "" */
};

/* Whether the endpoint is one of these; others are bound by ZeroMQ itself. */
bool listen_knows(const char *endpoint);

/*
 * `passed` is a listening socket of the service manager, which is used as it is, or -1. A missing directory is made,
 * for the owner alone. SINK_EBUSY: another daemon has the path (the text names its process); SINK_EINVAL: no such path
 * can be; SINK_EIO.
 */
int listen_open(const char *endpoint, int passed, struct listener *ret, struct err *e);

/* Removes the socket file, if it is ours, and lets the lock go. The lock file stays: removing it would be a race. */
void listen_close(struct listener *l);

#endif
