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
	struct render r;    /* r.name is the conversation's name now */
	struct options set; /* sampling settings that hold here, besides the conversation's own */
	struct buf files;   /* what goes with the next message */
	bool read_only;
	enum chat_next next;
	char other[TARGET_SIZE]; /* for CHAT_SWITCH */
	char bye[120];		 /* why the daemon said that it ends; "" */
	int code;
};

/* Sends a message, or with NULL another verb that makes an answer; what comes of it arrives as events. */
void chat_say(struct chat *t, const char *op, const char *text, size_t len);

/* A line that begins with a slash. */
void slash_run(struct chat *t, const char *line);

/* For Tab (edit_words of edit.h); `arg` is the chat. */
bool slash_words(void *arg, const char *line, size_t *from, struct buf *found);

/* compose.c: what goes into a message, and how it is answered. Each takes what stands behind its command. */
void compose_send(struct chat *t, const char *text, size_t len); /* with the files that wait */
void compose_edit(struct chat *t, const char *rest);
void compose_file(struct chat *t, const char *rest);
void compose_set(struct chat *t, const char *rest);
void compose_path(const char *path, struct buf *ret); /* ~/ is the home directory */

#endif
