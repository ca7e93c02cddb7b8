/* Events that are on the disk alone, for readers who come back at an old cursor. */
#ifndef DAEMON_FETCH_H
#define DAEMON_FETCH_H

#include "core.h"

/*
 * Has the reader's next event read, and as many behind it as are good for a while. Does nothing while that is under
 * way.
 */
void fetch_begin(struct core *c, struct attachment *a);

#endif
