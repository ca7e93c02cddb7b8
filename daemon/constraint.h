/*
 * What an answer must be: a JSON Schema or a regular expression of a request, kept as it came, since it is written to
 * the conversation's row, and the grammar made of it. Shared by all settings that were copied from those it was read
 * into; the loop's alone, but for the grammar, which never changes.
 */
#ifndef DAEMON_CONSTRAINT_H
#define DAEMON_CONSTRAINT_H

#include <stdbool.h>

#include "error.h"
#include "grammar.h"
#include "msg.h"

enum {
	CONSTRAINT_BYTES = 65536, /* of a schema, as it travels */
	CONSTRAINT_DEPTH = 28,	  /* of its maps and lists: it must fit into `info` in a reply */
};

struct constraint;

/*
 * Reads `schema` and `regex` of a map. *given: one of them is there. *ret is the caller's share; NULL when nothing is
 * given, and for an empty regex, which lifts a constraint. SINK_EINVAL, SINK_ENOMEM. Its grammar is made later.
 */
int constraint_read(const struct val *map, struct constraint **ret, bool *given, struct err *e);

struct constraint *constraint_hold(struct constraint *c); /* one more share; NULL is fine, here and below */
void constraint_drop(struct constraint *c);

/* Its grammar, made on first use: SINK_EINVAL says what is not supported. */
int constraint_grammar(struct constraint *c, const struct grammar **ret, struct err *e);

/* Writes the key with which it came, and its value. */
void constraint_write(const struct constraint *c, struct out *o);

#endif
