/*
 * What the daemon tells its service manager, and what it is given by it (sd_notify(3), sd_listen_fds(3),
 * sd_watchdog_enabled(3)). Two files have these functions: notify.c by libsystemd, notify_socket.c without it;
 * the makefile takes one. Without a service manager all of them do nothing.
 */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <stdint.h>

#include "error.h"

/* Sends assignments such as "READY=1" or "STATUS=…", one a line. A manager that cannot be reached is no error. */
void notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "RELOADING=1" with the monotonic time that the manager wants beside it; READY=1 ends it. */
void notify_reloading(void);

/*
 * The listening unix stream socket that was passed in, or -1 when none was. Takes the variables out of the environment.
 * SINK_EINVAL when what was passed is more than one descriptor or no such socket.
 */
int notify_listen_fd(int *ret, struct err *e);

/* Microseconds within which "WATCHDOG=1" must come again and again; 0: nobody watches. */
uint64_t notify_watchdog_usec(void);

#endif
