/* The conversation on a terminal: what chat.c and the slash commands share. */
#ifndef CLIENT_CHAT_H
#define CLIENT_CHAT_H

#include <stdbool.h>

#include "edit.h"
#include "render.h"
#include "target.h"

enum chat_next {
	CHAT_STAY,
	CHAT_LEAVE,  /* detach */
	CHAT_SWITCH, /* to `next` */
	CHAT_ENDED,  /* the conversation or the daemon is gone, `code` says how it went */
};

struct chat {
	struct cli *c;
	struct edit *edit;
	struct follow follow;
	struct render r; /* r.name is the conversation's name now */
	bool read_only;
	enum chat_next next;
	char other[TARGET_SIZE]; /* for CHAT_SWITCH */
	char bye[120];		 /* why the daemon said that it ends; "" */
	int code;
};

/* Sends a message, or with NULL asks for the last answer anew; what comes of it arrives as events. */
void chat_say(struct chat *t, const char *op, const char *text, size_t len);

/* A line that begins with a slash. */
void slash_run(struct chat *t, const char *line);

#endif
