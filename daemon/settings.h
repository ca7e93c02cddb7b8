/*
 * The settings of an answer: how its tokens are sampled (engine/sample.h), and when it ends. As they come in a
 * request's map `sampling` and go out in a conversation's `info`. What an answer must be (constraint.h) is shared by
 * copies, so settings are copied by settings_copy() and end with settings_release().
 */
#ifndef DAEMON_SETTINGS_H
#define DAEMON_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "constraint.h"
#include "error.h"
#include "msg.h"
#include "sample.h"

enum { STOP_MAX = 16, STOP_BYTES = 256 };

struct settings {
	struct sampling how;
	int64_t max_tokens;   /* 0: no limit */
	int64_t top_logprobs; /* so many of the likeliest tokens are told for each of the answer's */
	bool logprobs;	      /* its own are */
	bool unthinking;      /* the model is to answer at once, where its template can say so */
	bool undrafted;	      /* no tokens are guessed, whatever the daemon does elsewhere */
	size_t stops;
	struct {
		size_t len;
		char text[STOP_BYTES + 1];
	} stop[STOP_MAX];
	struct constraint *constraint; /* NULL: none. Under one, stop strings say nothing */
};

/* `to` has nothing to be released before. */
void settings_copy(struct settings *to, const struct settings *from);
void settings_release(struct settings *s); /* all zeros is fine */

/*
 * Takes over the fields of `map` that are there; *seeded (may be NULL) tells whether a seed was among them. SINK_EINVAL
 * names the field, or tells what is not supported of a constraint, and *s is unchanged.
 */
int settings_read(const struct val *map, struct settings *s, bool *seeded, struct err *e);

/* The same from a row of the store: a constraint is looked at when it is used. */
int settings_restore(const struct val *map, struct settings *s, struct err *e);

/* Writes all of them as a map under `key`; `whole`: the constraint too, which may be long. */
void settings_write(const struct settings *s, struct out *o, const char *key, bool whole);

/* A seed nobody can guess. */
uint64_t settings_random_seed(void);

#endif
