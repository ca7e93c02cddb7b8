/*
 * What a person sees of a conversation's events, and what a script gets of them.
 *
 *	RENDER_TEXT	the answer's text alone on standard output
 *	RENDER_LOG	messages under a heading with their number, as `sink log` shows them
 *	RENDER_CHAT	messages behind a prompt, as they look when they are typed; not the system's
 *	RENDER_JSON	every event as one line of JSON
 *
 * Progress, footers and errors go to standard error in all of them but the last.
 */
#ifndef CLIENT_RENDER_H
#define CLIENT_RENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "markdown.h"
#include "sink.h"

enum render_style { RENDER_TEXT, RENDER_LOG, RENDER_CHAT, RENDER_JSON };

struct render {
	enum render_style style;
	bool footer;	  /* the line of figures under an answer */
	int64_t own;	  /* a message that the person typed here and need not see again; -1: none */
	int64_t capacity; /* of the window, for the footer; 0: no end */
	/* What is going on: read by the caller, written by render_event(). */
	bool answering;
	bool in_line;	 /* text was written and its last character was no newline */
	char name[264];	 /* the conversation; follows a renaming */
	char finish[16]; /* of the last answer that ended; "" before */
	char error[240]; /* the last error event's text */
	struct markdown markdown;
};

enum render_end {
	RENDER_MORE,
	RENDER_DONE, /* an answer ended */
	RENDER_GONE, /* the conversation was removed */
	RENDER_BYE,  /* the daemon ends */
};

void render_init(struct render *r, enum render_style style, const char *name, const char *policy);

enum render_end render_event(struct render *r, const struct sink_reply *ev);

/* Whether an event would write anything in the chat; a silent one need not disturb the prompt. */
bool render_shows(const struct render *r, const struct sink_reply *ev);

/*
 * A whole message, as RENDER_LOG or RENDER_CHAT show it, but for the first `skip` bytes of its text; `note` (NULL:
 * none) stands beside its heading.
 */
void render_message(struct render *r, int64_t number, const char *role, const char *text, size_t len, size_t skip,
		    const char *note);

/* A line of ours between two messages. */
void render_rule(struct render *r, const char *text);

/* Ends a line that is open. */
void render_newline(struct render *r);

/* Says that the daemon has not answered for a while and is waited for. */
void render_away(struct render *r);

/* The exit code that an answer's end means. */
int render_code(const struct render *r, bool strict);
int render_finish_code(const char *finish, bool strict);

#endif
