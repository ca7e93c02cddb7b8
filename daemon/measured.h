/*
 * What sinkd-bench has measured of a model, for the daemon to follow: a small file beside the model's own, under its
 * name with ".sinks" behind it. A model that is reached through a link has it where the model is.
 *
 * It is an INI file of one section, [sinks]: `fingerprint`, that of the weights (model_fingerprint()) in sixteen
 * hexadecimal digits; `sinks`, how many first tokens the model wants to see for good; and `token`, the sink token that
 * begins every text, where the model was trained with one. Keys that are not known are of a later version, and ignored.
 */
#ifndef DAEMON_MEASURED_H
#define DAEMON_MEASURED_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

enum { MEASURED_MOST = 1024, MEASURED_PATH = 4096 + 16 };

struct measured {
	uint64_t fingerprint;
	int32_t sinks; /* 0..MEASURED_MOST */
	int32_t token; /* -1: none */
};

/* Where it is for this model, [MEASURED_PATH]. SINK_ENOENT: there is no such model. */
int measured_path(const char *model, char *path, struct err *e);

/*
 * *ret is written on success only. SINK_ENOENT: nothing was measured; SINK_EIO: the file cannot be read; SINK_EFORMAT:
 * it is damaged. The error names it.
 */
int measured_read(const char *path, struct measured *ret, struct err *e);

/*
 * Writes it anew, whole or not at all. `how` is told in it as a comment, one line, for people. SINK_EIO, and an earlier
 * one is still there.
 */
int measured_write(const char *path, const struct measured *m, const char *how, struct err *e);

#endif
