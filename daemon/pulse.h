/* How many tokens were read and written, and how fast lately: of one conversation, or of all. Pure. */
#ifndef DAEMON_PULSE_H
#define DAEMON_PULSE_H

#include <stdint.h>

enum { PULSE_MS = 1000 };

struct pulse {
	int64_t read, written; /* tokens, since the daemon's start; the owner counts */
	double read_per_s, written_per_s;

	double then; /* ms of the clock, and what the counts were */
	int64_t read_then, written_then;
};

/*
 * To be called now and then: when PULSE_MS have gone by, the speeds are those of that time. After a pause of several
 * times as long they are 0, since nobody knows when in it the tokens came.
 */
void pulse_beat(struct pulse *p, double now);

#endif
