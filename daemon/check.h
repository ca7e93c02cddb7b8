/* `sinkd -t`: what the daemon would run with, found out and printed. */
#ifndef DAEMON_CHECK_H
#define DAEMON_CHECK_H

#include <stdio.h>

#include "conf.h"

/* `file` is the configuration file that was read, or "". A negative code when the model cannot be loaded; logged. */
int check_print(const struct conf *conf, const char *file, FILE *to);

/*
 * `sinkd --check-store`: verifies the store and all files of caches, a line for each finding; with `repair` mends what
 * can be, and sets aside files that are no good. Returns the number of findings that are left, or a negative code,
 * which was logged.
 */
int check_store(const struct conf *conf, bool repair, FILE *to);

#endif
