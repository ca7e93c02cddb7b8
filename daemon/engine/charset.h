/*
 * Sets of characters (code points of Unicode), and what they are in bytes: as they are, in UTF-8, or inside a string of
 * JSON, where quotes, backslashes and control characters are escaped in one way each.
 */
#ifndef ENGINE_CHARSET_H
#define ENGINE_CHARSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "grammar.h"

enum { CHARSET_RANGES = 256, CHARSET_LAST = 0x10ffff };

enum charset_form { FORM_PLAIN, FORM_JSON };

struct charset {
	size_t count;
	struct {
		uint32_t least, most;
	} range[CHARSET_RANGES];
};

/* Adds least .. most, in any order with others; false when there are too many ranges. */
bool charset_add(struct charset *s, uint32_t least, uint32_t most);
bool charset_add_all(struct charset *s, const struct charset *others);
/* Becomes all that is not in it; false as above. */
bool charset_invert(struct charset *s);

/* One character of the set. Surrogates are none. */
int32_t charset_expr(struct grammar *g, const struct charset *s, enum charset_form form);

/* The bytes of one character; returns how many, at most 6. */
size_t charset_spell(uint32_t code, enum charset_form form, char to[8]);

#endif
