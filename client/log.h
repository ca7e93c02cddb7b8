/* A conversation's messages, fetched in portions: what `sink log` prints and where the chat begins. */
#ifndef CLIENT_LOG_H
#define CLIENT_LOG_H

#include <stdint.h>

#include "render.h"
#include "verb.h"

/* The figures of a conversation that showing and following it need. */
struct log_info {
	int64_t messages, seq, first_seq, pinned, kept;
	int64_t answer; /* the message being written; -1: none */
	char state[16], policy[64];
};

/* An exit code. */
int log_info(struct cli *c, const char *name, struct log_info *ret);

/* Whether the conversation is reading or answering, or waits for its turn. */
bool log_busy(const struct log_info *i);

/*
 * Shows the last `count` messages (-1: all) of those that `info` counted, except the one being written. An exit code.
 * `lines` bounds how much of a message is shown: its last lines; 0: all of it.
 */
int log_messages(struct cli *c, const char *name, const struct log_info *info, int64_t count, struct render *r,
		 size_t lines);

/*
 * Attaches where `info` ends or, when an answer is being written, at its beginning, so that it is seen whole. An exit
 * code.
 */
int log_attach(struct cli *c, const char *name, const struct log_info *info);

#endif
