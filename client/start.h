/* The way to the daemon: which endpoint, whether one answers, and starting one when none does. */
#ifndef CLIENT_START_H
#define CLIENT_START_H

#include <stdbool.h>

#include "verb.h"

/*
 * Connects c->sink as c->verb asks. An exit code: 3 when no daemon answers (and none was to be started, or it ended at
 * once), 6 when no model is known or the new daemon could not use it.
 */
int start_connect(struct cli *c);

/* Connects c->sink to a daemon that runs and answers at once; false when none does. Starts nothing. */
bool start_look(struct cli *c);

/* Which daemon: c->endpoint from the options and the environment. An exit code. */
int start_find(struct cli *c);

/* Whether somebody listens. Only a Unix socket can tell; of others it is believed. */
bool start_present(const char *endpoint);

/*
 * The model that a new daemon is given: $SINKD_MODEL, the configuration's `model`, the data directory's
 * models/default.gguf. Writes "" when the configuration file names it, since the daemon reads that itself. False: none.
 */
bool start_model(char *ret, size_t size);

/* Whether a line of a configuration file sets `key`; its value without blanks and quotes goes to `ret`. */
bool start_setting(const char *line, const char *key, char *ret, size_t size);

#endif
