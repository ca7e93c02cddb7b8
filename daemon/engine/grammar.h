/*
 * Grammars: what an answer may be, as an automaton over bytes. Somebody builds expressions (regex.h, or the daemon from
 * a JSON Schema), and grammar_finish() makes nodes of them, which a guide walks (guide.h).
 *
 * An expression is a number that belongs to its grammar. Equal ones are the same number. Expressions call rules, and
 * rules may call each other, so that JSON in JSON of any depth can be said; repetitions are counted, not written out.
 * Nothing fails while one builds: what goes wrong is remembered, and grammar_finish() tells it.
 *
 * A grammar that is finished never changes; any number of threads may use it at the same time.
 */
#ifndef ENGINE_GRAMMAR_H
#define ENGINE_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* Limits on what a grammar takes: about 4 MiB of memory, and a few milliseconds. */
enum {
	GRAMMAR_EXPRS = 1 << 16, /* expressions */
	GRAMMAR_BYTES = 1 << 20, /* of what they consist of */
	GRAMMAR_NODES = 1 << 15, /* nodes of the automaton: a byte of a text is one */
	GRAMMAR_DEPTH = 160,	 /* calls and repetitions inside each other, at most, in what is written */
	GRAMMAR_COUNT = 65535,	 /* of a repetition */
};

struct grammar;

struct byteset {
	uint64_t bits[4];
};

void grammar_byteset_add(struct byteset *s, unsigned least, unsigned most); /* both included */
bool grammar_byteset_has(const struct byteset *s, unsigned byte);

int grammar_new(struct grammar **ret, struct err *e);
void grammar_free(struct grammar *g); /* NULL is fine */

enum {
	EXPR_NEVER, /* nothing fits */
	EXPR_EMPTY, /* no byte */
};

int32_t grammar_bytes(struct grammar *g, const struct byteset *set); /* one byte of these */
int32_t grammar_text(struct grammar *g, const char *text, size_t len);
int32_t grammar_seq(struct grammar *g, const int32_t *part, size_t parts);
int32_t grammar_any(struct grammar *g, const int32_t *choice, size_t choices);

/* `most` GRAMMAR_MANY: no limit; other counts are at most GRAMMAR_COUNT. */
#define GRAMMAR_MANY UINT32_MAX
int32_t grammar_repeat(struct grammar *g, int32_t of, uint32_t least, uint32_t most);

/* A call of a new rule, which fits nothing before grammar_define() says what it is. */
int32_t grammar_rule(struct grammar *g);
void grammar_define(struct grammar *g, int32_t call, int32_t body);

/*
 * Makes the automaton of `all`, once. SINK_EINVAL: it is larger than a limit above, nothing fits it, or a rule calls
 * itself before any byte; SINK_ENOMEM.
 */
int grammar_finish(struct grammar *g, int32_t all, struct err *e);

#endif
