/*
 * Owns the way from ranges of characters to sequences of ranges of bytes. A range is cut until all bytes of its
 * characters vary on their own: the first bytes alike, and from some place on all that UTF-8 has.
 */
#include "charset.h"

#include <stdlib.h>
#include <string.h>

enum { PIECES = 2048 }; /* sequences of one set */

static int compare(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* In order, and no two that touch. */
static void settle(struct charset *s)
{
	size_t kept = 0;

	qsort(s->range, s->count, sizeof(s->range[0]), compare);
	for (size_t i = 0; i < s->count; i++) {
		if (kept && s->range[i].least <= s->range[kept - 1].most + 1) {
			if (s->range[i].most > s->range[kept - 1].most)
				s->range[kept - 1].most = s->range[i].most;
		} else {
			s->range[kept++] = s->range[i];
		}
	}
	s->count = kept;
}

bool charset_add(struct charset *s, uint32_t least, uint32_t most)
{
	if (s->count == CHARSET_RANGES)
		settle(s);
	if (s->count == CHARSET_RANGES)
		return false;
	s->range[s->count].least = least;
	s->range[s->count++].most = most;
	return true;
}

bool charset_add_all(struct charset *s, const struct charset *others)
{
	for (size_t i = 0; i < others->count; i++)
		if (!charset_add(s, others->range[i].least, others->range[i].most))
			return false;
	return true;
}

bool charset_invert(struct charset *s)
{
	struct charset all = { 0 };
	uint32_t next = 0;

	settle(s);
	for (size_t i = 0; i < s->count; i++) {
		if (s->range[i].least > next && !charset_add(&all, next, s->range[i].least - 1))
			return false;
		next = s->range[i].most + 1;
	}
	if (next <= CHARSET_LAST && !charset_add(&all, next, CHARSET_LAST))
		return false;
	*s = all;
	return true;
}

static size_t encode(uint32_t code, uint8_t to[4])
{
	static const uint8_t first[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	const size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

	if (len == 1) {
		to[0] = (uint8_t)code;
		return 1;
	}
	for (size_t i = len; i-- > 1; code >>= 6)
		to[i] = (uint8_t)(0x80 | (code & 0x3f));
	to[0] = (uint8_t)(first[len] | code);
	return len;
}

/* The sequences of a set as they come. */
struct pieces {
	struct grammar *g;
	int32_t *choice;
	size_t count;
};

static void add(struct pieces *p, uint32_t least, uint32_t most)
{
	uint8_t low[4], high[4];
	const size_t len = encode(least, low);
	int32_t part[4];

	encode(most, high);
	for (size_t i = 0; i < len; i++) {
		struct byteset s = { { 0 } };

		grammar_byteset_add(&s, low[i], high[i]);
		part[i] = grammar_bytes(p->g, &s);
	}
	if (p->count < PIECES)
		p->choice[p->count++] = grammar_seq(p->g, part, len);
}

/* Characters of one length. */
static void cut(struct pieces *p, uint32_t least, uint32_t most, int tail)
{
	for (int i = 1; i <= tail; i++) {
		const uint32_t free = (UINT32_C(1) << 6 * i) - 1;

		if ((least & ~free) == (most & ~free))
			continue;
		if (least & free) {
			cut(p, least, least | free, tail);
			cut(p, (least | free) + 1, most, tail);
			return;
		}
		if ((most & free) != free) {
			cut(p, least, (most & ~free) - 1, tail);
			cut(p, most & ~free, most, tail);
			return;
		}
	}
	add(p, least, most);
}

static void add_range(struct pieces *p, uint32_t least, uint32_t most)
{
	static const struct {
		uint32_t least, most;
		int tail;
	} lengths[] = { { 0x80, 0x7ff, 1 }, { 0x800, 0xd7ff, 2 }, { 0xe000, 0xffff, 2 }, { 0x10000, CHARSET_LAST, 3 } };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		const uint32_t low = least > lengths[i].least ? least : lengths[i].least;
		const uint32_t high = most < lengths[i].most ? most : lengths[i].most;

		if (low <= high)
			cut(p, low, high, lengths[i].tail);
	}
}

static bool is_escaped(uint32_t code)
{
	return code < 0x20 || code == '"' || code == '\\';
}

/* ASCII is one set of bytes; what is escaped is a text each. */
static void add_ascii(struct pieces *p, const struct charset *s, enum charset_form form)
{
	struct byteset plain = { { 0 } };

	for (size_t i = 0; i < s->count; i++) {
		for (uint32_t c = s->range[i].least; c <= s->range[i].most && c < 0x80; c++) {
			char text[8];

			if (form == FORM_PLAIN || !is_escaped(c))
				grammar_byteset_add(&plain, c, c);
			else if (p->count < PIECES)
				p->choice[p->count++] = grammar_text(p->g, text, charset_spell(c, form, text));
		}
	}
	if (p->count < PIECES)
		p->choice[p->count++] = grammar_bytes(p->g, &plain);
}

int32_t charset_expr(struct grammar *g, const struct charset *s, enum charset_form form)
{
	struct charset *all = malloc(sizeof(*all));
	struct pieces p = { .g = g, .choice = malloc(PIECES * sizeof(*p.choice)) };
	int32_t r = EXPR_NEVER;

	if (all && p.choice) {
		*all = *s;
		settle(all);
		add_ascii(&p, all, form);
		for (size_t i = 0; i < all->count; i++)
			add_range(&p, all->range[i].least, all->range[i].most);
		r = grammar_any(g, p.choice, p.count);
	}
	free(all);
	free(p.choice);
	return r;
}

size_t charset_spell(uint32_t code, enum charset_form form, char to[8])
{
	static const char letters[] = "bfnrt", codes[] = "\b\f\n\r\t", hex[] = "0123456789abcdef";
	const char *known = code ? strchr(codes, (int)code) : NULL;

	if (form == FORM_PLAIN || !is_escaped(code))
		return encode(code, (uint8_t *)to);
	to[0] = '\\';
	if (code >= 0x20 || (known && code < 0x20)) {
		to[1] = code >= 0x20 ? (char)code : letters[known - codes];
		return 2;
	}
	memcpy(to + 1, "u00", 3);
	to[4] = hex[code >> 4];
	to[5] = hex[code & 15];
	return 6;
}
