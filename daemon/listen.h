/*
 * The listening unix socket of an endpoint `ipc://PATH`: made by us under a lock, so that a second daemon on the same
 * path is refused and a stale file is no obstacle; or given by the service manager, as one of a socket unit, or as the
 * one that an earlier daemon has made and that the manager has kept open meanwhile. Clients that come while no daemon
 * runs wait in that one's queue.
 */
#ifndef DAEMON_LISTEN_H
#define DAEMON_LISTEN_H

#include <stdbool.h>

#include "notify.h"

enum { LISTEN_ENDPOINT = 128 };

struct listener {
	int fd;		/* listening, non-blocking; -1: none */
	int lock;	/* the open lock file, PATH.lock; -1: none */
	char path[108]; /* of the socket file that is ours to remove, or "" */
	bool kept;	/* the manager keeps the socket, so its file stays when we end */
};

/* Whether the endpoint is one of these; others are bound by ZeroMQ itself. */
bool listen_knows(const char *endpoint);

/*
 * Takes what the manager passed in, and uses its socket as it is when it is a unit's. One of ours is used again when it
 * is still reached by the path of the endpoint; else it is closed, as after listen_discard(), and a new one is made. A
 * missing directory is made, for the owner alone. SINK_EBUSY: another daemon has the path (the text names its process);
 * SINK_EINVAL: no such path can be; SINK_EIO. After a failure the socket that was passed in is the caller's still.
 */
int listen_open(const char *endpoint, const struct notify_fds *passed, struct listener *ret, struct err *e);

/* The endpoint of the path that the socket is bound to, whoever has made it. False: it has none. */
bool listen_endpoint(const struct listener *l, char ret[LISTEN_ENDPOINT]);

/* Ends a socket of ours that was kept: closes it, and removes its file unless that is somebody else's by now. */
void listen_discard(int fd);

/* For notify_take_fds(): sorts `count` descriptors from 3 on by their names, which stand between colons, or NULL. */
int listen_sort(int count, const char *names, struct notify_fds *ret, struct err *e);

/*
 * Removes the socket file, if it is ours and not kept, and lets the lock go. The lock file stays: to remove it would be
 * a race.
 */
void listen_close(struct listener *l);

#endif
