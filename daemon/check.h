/* `sinkd -t`: what the daemon would run with, found out and printed. */
#ifndef DAEMON_CHECK_H
#define DAEMON_CHECK_H

#include <stdio.h>

#include "conf.h"

/* `file` is the configuration file that was read, or "". A negative code when the model cannot be loaded; logged. */
int check_print(const struct conf *conf, const char *file, FILE *to);

#endif
