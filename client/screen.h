/*
 * A terminal that is drawn upon as a whole, by what terminfo(5) knows of it, and its keys. While a screen is open the
 * signals that end, stop and resize come as answers to screen_wait(), so that the terminal is always given back as it
 * was. A process has one terminal, so this module has one state.
 */
#ifndef CLIENT_SCREEN_H
#define CLIENT_SCREEN_H

#include <stdbool.h>

#include "buf.h"

enum screen_what {
	SCREEN_TIME,   /* the time is over */
	SCREEN_KEY,    /* *which is a byte, or one of the keys below */
	SCREEN_REDRAW, /* the terminal has another size, or was somebody else's meanwhile */
	SCREEN_END,    /* signal *which came, or the terminal is gone (0) */
};

enum screen_key { SCREEN_UP = 256, SCREEN_DOWN, SCREEN_PAGE_UP, SCREEN_PAGE_DOWN, SCREEN_FIRST, SCREEN_LAST };

/* Whether standard input and output are a terminal whose cursor can be moved. */
bool screen_able(void);

/* False: the terminal cannot be set; it is as it was. */
bool screen_open(void);
void screen_close(void);

/*
 * Shows lines, which end in newlines, are no wider than the terminal, and may hold the escape sequences of styles. What
 * stood there before is gone; lines beyond the terminal's height are left out.
 */
void screen_draw(const struct buf *lines);

/* Waits for a key or a signal, `ms` at most. */
enum screen_what screen_wait(int ms, int *which);

#endif
