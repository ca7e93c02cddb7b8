/*
 * Owns the times of steps by their rows. Counts that were measured lately are points of a curve; between two of them,
 * and behind the last, the curve is straight, and where only one is known a row costs `row_usual` of the first.
 *
 * All times move together when contexts grow or another program wants the machine, though only one of them is measured:
 * each measurement draws the others along. What was not measured for long is forgotten, so that a wrong one is not
 * believed for ever.
 */
#include "pace.h"

static const double row_usual = 0.25, own_share = 0.08, common_share = 0.15, fading = 0.998, faded = 0.1;

void pace_learn(struct pace *p, size_t rows, double ms)
{
	const double expected = pace_of(p, rows);
	double change = 1;

	if (rows < 1 || rows > PACE_ROWS || ms <= 0)
		return;
	if (expected > 0 && ms > 1.5 * expected) /* another program's doing, most likely */
		ms = 1.5 * expected;
	if (p->trust[rows] > 0)
		change = 1 + common_share * (ms / expected - 1);
	else
		p->ms[rows] = ms;
	for (size_t n = 1; n <= PACE_ROWS; n++) {
		p->ms[n] *= change;
		p->trust[n] = p->trust[n] * fading > faded ? p->trust[n] * fading : 0;
	}
	p->ms[rows] += own_share * (ms - p->ms[rows]);
	p->trust[rows] = 1;
}

/* The next count from `n` on, in steps of `by`, that was measured; 0: none. */
static size_t known_from(const struct pace *p, size_t n, int by)
{
	for (; n >= 1 && n <= PACE_ROWS; n = by > 0 ? n + 1 : n - 1)
		if (p->trust[n] > 0)
			return n;
	return 0;
}

double pace_of(const struct pace *p, size_t rows)
{
	const size_t below = known_from(p, rows < PACE_ROWS ? rows : PACE_ROWS, -1), above = known_from(p, rows, 1);
	size_t least = below ? known_from(p, 1, 1) : 0;
	double row;

	if (!below && !above)
		return 0;
	if (!below)
		return p->ms[above] / (1 + row_usual * (double)(above - 1)) * (1 + row_usual * (double)(rows - 1));
	if (below == rows)
		return p->ms[below];
	if (above)
		row = (p->ms[above] - p->ms[below]) / (double)(above - below);
	else if (least < below)
		row = (p->ms[below] - p->ms[least]) / (double)(below - least);
	else
		row = row_usual * p->ms[below] / (1 + row_usual * (double)(below - 1));
	return p->ms[below] + (row > 0 ? row * (double)(rows - below) : 0);
}
