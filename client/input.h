/* What a person gives: files, standard input, and what a new conversation is made with. */
#ifndef CLIENT_INPUT_H
#define CLIENT_INPUT_H

#include "buf.h"
#include "verb.h"

/*
 * Adds a file's text ("-": standard input) behind what is in `b`, a blank line between, without the file's last
 * newlines. An exit code.
 */
int input_file(struct buf *b, const char *path);

/* Adds `system`, `policy` and `marks` to a request that makes a conversation. An exit code. */
int input_making(struct cli *c, struct sink_args *a);

#endif
