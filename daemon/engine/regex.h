/*
 * Regular expressions, as expressions of a grammar. The whole text must match; ^ and $ are allowed where that makes no
 * difference. What is known: characters, ., [classes], \d \w \s and their opposites, \n \t \r \f \v \0 \xHH \uHHHH
 * \u{H...}, groups (also (?:...) and named ones, which catch nothing), |, ?, *, +, {m}, {m,}, {m,n}, each of them lazy
 * with a further ?, which makes no difference either. The classes are those of ECMAScript, \d and \w of ASCII alone.
 * Back references, looking around, \b and flags are refused.
 */
#ifndef ENGINE_REGEX_H
#define ENGINE_REGEX_H

#include <stddef.h>
#include <stdint.h>

#include "charset.h"
#include "grammar.h"

enum {
	REGEX_BYTES = 16384,
	REGEX_DEPTH = 64, /* groups inside each other */
};

struct regex {
	int32_t expr;
	uint32_t least, most; /* characters of what matches; GRAMMAR_MANY: without limit */
};

/* SINK_EINVAL says what is not understood, and where. */
int regex_parse(struct grammar *g, const char *pattern, size_t len, enum charset_form form, struct regex *ret,
		struct err *e);

#endif
