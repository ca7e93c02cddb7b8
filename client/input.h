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

/*
 * Opens a file ("-": standard input) to be read at any place, its size known: a pipe is copied first. An exit code; the
 * caller closes *fd.
 */
int input_open(const char *path, int *fd, int64_t *size);

/*
 * Makes a conversation of a JSON export (sink export --format json), `name` (NULL: that of the export) is its name, and
 * prints it. Half a conversation is taken back. An exit code.
 */
int input_export(struct cli *c, int fd, const char *name);

/* Reads the file of --schema, if it was given, and makes sure that it is JSON. An exit code. */
int input_schema(const struct options *o, struct buf *schema);

/* Adds `system`, `policy` and `marks` to a request that makes a conversation. An exit code. */
int input_making(struct cli *c, struct sink_args *a);

#endif
