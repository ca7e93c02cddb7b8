/* What edit.c, which waits and draws, and edit_key.c, which does what keys do, share. Nobody else includes it. */
#ifndef CLIENT_EDIT_INNER_H
#define CLIENT_EDIT_INNER_H

#include <histedit.h>
#include <limits.h>

#include "edit.h"

struct edit {
	EditLine *el;
	History *history;
	struct follow *f;
	edit_hook *hook;
	void *arg;
	edit_words *words; /* NULL: Tab is a tab */
	const char *prompt;
	char history_path[PATH_MAX];
	struct buf typed;  /* bytes that were read and not yet taken */
	struct buf before; /* of this line: what a large paste holds, and what stood before it */
	bool ended;	   /* the terminal's end */
	bool hidden;
	bool reading;		 /* inside el_gets() */
	enum edit_result result; /* why el_gets() ended early */
};

struct edit *edit_self(EditLine *el);
void edit_read_keys(struct edit *e); /* what can be read now goes to `typed` */
void edit_unhide(struct edit *e);    /* draws what edit_hide() erased */

/* edit_key.c: gives keys their functions. */
void edit_bind_keys(EditLine *el);

#endif
