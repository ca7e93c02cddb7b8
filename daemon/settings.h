/*
 * The settings of an answer: how its tokens are sampled (engine/sample.h), and when it ends. As they come in a
 * request's map `sampling` and go out in a conversation's `info`. A plain value: copied, never freed.
 */
#ifndef DAEMON_SETTINGS_H
#define DAEMON_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "msg.h"
#include "sample.h"

enum { STOP_MAX = 16, STOP_BYTES = 256 };

struct settings {
	struct sampling how;
	int64_t max_tokens; /* 0: no limit */
	bool logprobs;
	bool undrafted; /* no tokens are guessed, whatever the daemon does elsewhere */
	size_t stops;
	struct {
		size_t len;
		char text[STOP_BYTES + 1];
	} stop[STOP_MAX];
};

/*
 * Takes over the fields of `map` that are there; *seeded (may be NULL) tells whether a seed was among them. SINK_EINVAL
 * names the field, and *s is unchanged.
 */
int settings_read(const struct val *map, struct settings *s, bool *seeded, struct err *e);

/* Writes all of them as a map under `key`. */
void settings_write(const struct settings *s, struct out *o, const char *key);

/* A seed nobody can guess. */
uint64_t settings_random_seed(void);

#endif
