/*
 * The line that a person types, with libedit: editing, history, paste, and a prompt that steps aside for what the
 * daemon says meanwhile.
 *
 * Pasted newlines and Alt-Enter put a newline into the line; only Enter ends it. A large paste is not shown but
 * counted. Keys are read by this module alone: what is typed while an answer streams stays for the next line, except
 * for the two keys that act at once, Ctrl-C and Ctrl-D.
 */
#ifndef CLIENT_EDIT_H
#define CLIENT_EDIT_H

#include <stdbool.h>

#include "buf.h"
#include "follow.h"

struct edit;

enum edit_result {
	EDIT_LINE,	/* a line */
	EDIT_EVENT,	/* edit_wait() only: *ev came, and is the caller's; NULL: the connection is lost for now */
	EDIT_INTERRUPT, /* Ctrl-C; a line that was begun is gone */
	EDIT_LEAVE,	/* Ctrl-D on an empty line, the terminal's end, or SIGTERM */
	EDIT_OVER,	/* the hook said that there is nothing to type for any more */
	EDIT_LOST,	/* the daemon is gone: follow_lost() says why */
};

/*
 * What is done with an event that comes while a line is being typed. It is the hook's to free; NULL tells that the
 * connection is lost for now. It calls edit_hide()
 * before it writes anything, and may use edit_wait(). False ends the line with EDIT_OVER.
 */
typedef bool edit_hook(void *arg, struct sink_reply *ev);

/*
 * What Tab may make of a line up to its cursor: adds candidates, one a line, that begin with what stands from byte
 * *from on. False where Tab is a tab.
 */
typedef bool edit_words(void *arg, const char *line, size_t *from, struct buf *found);

/* Takes the terminal; NULL without memory. `f` must outlive it. */
struct edit *edit_new(struct follow *f, edit_hook *hook, void *arg);
void edit_free(struct edit *e); /* gives the terminal back; NULL is fine */

/* From now on Tab completes; `words` gets the hook's argument. */
void edit_complete(struct edit *e, edit_words *words);

/* Gives the terminal to another program, until it is taken back. Not while a line is read. */
void edit_lend(struct edit *e);
void edit_take_back(struct edit *e);

/* Reads a line behind `prompt` into `line` (emptied first). */
enum edit_result edit_line(struct edit *e, const char *prompt, struct buf *line);

/* Erases the prompt and the line until the hook returns; does nothing when they are not shown. */
void edit_hide(struct edit *e);

/* Waits while no line is read: for an event, or one of the two keys. */
enum edit_result edit_wait(struct edit *e, struct sink_reply **ev);

/* Remembers a line, now and for the next time. */
void edit_remember(struct edit *e, const char *text);

#endif
