/*
 * What is shown on the board (board.h): the daemon's state in shared memory, for `sink top` and whoever may use the
 * socket. Written by the loop, at what has changed a few times a second, and once a second when nothing has.
 *
 * A board that cannot be had is no reason not to serve: the log tells, and all goes on without.
 */
#ifndef DAEMON_PUBLISH_H
#define DAEMON_PUBLISH_H

#include "core.h"

struct publish;

/*
 * Opens the board of `endpoint` and writes it for the first time. A segment that is there is replaced, unless a daemon
 * that lives has it. NULL: there will be none, and the log has said why.
 */
struct publish *publish_open(struct core *c, const char *endpoint);
/* Takes it away. NULL is fine, here and below. */
void publish_close(struct publish *p);

/* The end of a turn of the loop. */
void publish_turn(struct publish *p, double now);
/* When publish_turn() has something to do by the clock, in ms; 0: never. */
double publish_due(const struct publish *p);

#endif
