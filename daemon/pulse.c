/* Owns what a speed is: tokens over the last whole second or a little more. */
#include "pulse.h"

enum { PAUSES = 3 };

void pulse_beat(struct pulse *p, double now)
{
	const double ms = now - p->then;

	if (ms < PULSE_MS)
		return;
	p->read_per_s = p->written_per_s = 0;
	if (ms < (double)PAUSES * PULSE_MS) {
		p->read_per_s = (double)(p->read - p->read_then) * 1e3 / ms;
		p->written_per_s = (double)(p->written - p->written_then) * 1e3 / ms;
	}
	p->then = now;
	p->read_then = p->read;
	p->written_then = p->written;
}
