/*
 * Owns the reading of regular expressions: a descent from alternatives through sequences to atoms. Characters that
 * follow each other are kept together as one text, so that alternatives of words are found to be words.
 */
#include "regex.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

struct parser {
	struct grammar *g;
	const char *begin, *at, *end;
	enum charset_form form;
	int depth;
	bool failed;
	struct err *e;
};

/* A part of the pattern. An anchor makes it one that must begin, or end, the text. */
struct part {
	int32_t expr;
	uint32_t least, most;
	int32_t code; /* a single character; -1: it is none */
	bool begins, ends;
};

static const struct part nothing = { .expr = EXPR_EMPTY, .code = -1 };

static struct part fail(struct parser *p, const char *what)
{
	if (!p->failed)
		err_set(p->e, SINK_EINVAL, "%s (at byte %zu of the pattern).", what, (size_t)(p->at - p->begin));
	p->failed = true;
	return nothing;
}

static bool next_is(const struct parser *p, char c)
{
	return p->at < p->end && *p->at == c;
}

static bool take(struct parser *p, char c)
{
	if (!next_is(p, c))
		return false;
	p->at++;
	return true;
}

/* The next character; the pattern is known to be UTF-8. */
static uint32_t take_code(struct parser *p)
{
	const int bytes = utf8_character(p->at, (size_t)(p->end - p->at));
	const uint32_t code = bytes > 0 ? utf8_code(p->at, bytes) : 0;

	p->at += bytes > 0 ? bytes : 0;
	return code;
}

/* ---- classes ---- */

static const struct charset digits = { 1, { { '0', '9' } } };
static const struct charset words = { 4, { { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' } } };
static const struct charset spaces = { 10,
				       { { 0x09, 0x0d },
					 { 0x20, 0x20 },
					 { 0xa0, 0xa0 },
					 { 0x1680, 0x1680 },
					 { 0x2000, 0x200a },
					 { 0x2028, 0x2029 },
					 { 0x202f, 0x202f },
					 { 0x205f, 0x205f },
					 { 0x3000, 0x3000 },
					 { 0xfeff, 0xfeff } } };
static const struct charset line_ends = { 3, { { '\n', '\n' }, { '\r', '\r' }, { 0x2028, 0x2029 } } };

/* The class that a letter behind a backslash names; false: none. */
static bool named_class(char letter, struct charset *ret)
{
	const struct charset *s = strchr("dD", letter)	 ? &digits
				  : strchr("wW", letter) ? &words
				  : strchr("sS", letter) ? &spaces
							 : NULL;

	if (!s || !letter)
		return false;
	*ret = *s;
	return letter >= 'a' || charset_invert(ret);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* So many digits; with `braces` any number of them up to six. */
static int32_t take_hex(struct parser *p, int count, bool braces)
{
	int32_t code = 0;
	int n = 0;

	while (n < (braces ? 6 : count) && p->at < p->end && hex_digit(*p->at) >= 0) {
		code = code * 16 + hex_digit(*p->at++);
		n++;
	}
	if (n < (braces ? 1 : count) || (braces && !take(p, '}')) || code > CHARSET_LAST ||
	    (code >= 0xd800 && code <= 0xdfff)) {
		fail(p, "This is no character");
		return 0;
	}
	return code;
}

/* The character behind a backslash. */
static int32_t take_escaped(struct parser *p)
{
	static const char letters[] = "ntrfv0", codes[] = "\n\t\r\f\v\0";
	const char c = p->at < p->end ? *p->at : '\0';
	const char *known = c ? strchr(letters, c) : NULL;

	if (known && !(c == '0' && p->end - p->at > 1 && p->at[1] >= '0' && p->at[1] <= '9')) {
		p->at++;
		return codes[known - letters];
	}
	if (c == 'x' || c == 'u') {
		p->at++;
		return c == 'u' && take(p, '{') ? take_hex(p, 0, true) : take_hex(p, c == 'x' ? 2 : 4, false);
	}
	if (c && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z'))
		return (int32_t)take_code(p);
	fail(p, c == 'b' || c == 'B'   ? "\\b and \\B are not supported"
		: c >= '0' && c <= '9' ? "Back references are not supported"
				       : "This escape is not supported");
	return 0;
}

/* One character of a class, or a class of its own (false). */
static bool take_member(struct parser *p, struct charset *s, uint32_t *code)
{
	struct charset named;

	if (!take(p, '\\')) {
		*code = take_code(p);
		return true;
	}
	if (p->at < p->end && named_class(*p->at, &named)) {
		p->at++;
		if (!charset_add_all(s, &named))
			fail(p, "The class is too large");
		return false;
	}
	if (take(p, 'b')) {
		*code = '\b';
		return true;
	}
	*code = (uint32_t)take_escaped(p);
	return true;
}

static struct part finish_class(struct parser *p, const struct charset *s)
{
	return (struct part){ .expr = charset_expr(p->g, s, p->form), .least = 1, .most = 1, .code = -1 };
}

/* Behind the opening bracket. */
static struct part take_class(struct parser *p)
{
	const bool inverted = take(p, '^');
	struct charset s = { 0 };

	while (!p->failed && !next_is(p, ']')) {
		uint32_t least, most;

		if (p->at == p->end)
			return fail(p, "A bracket is not closed");
		if (next_is(p, '[') && p->end - p->at > 1 && strchr(":.=", p->at[1]) && p->at[1])
			return fail(p, "Classes with a name in brackets are not supported");
		if (!take_member(p, &s, &least))
			continue;
		most = least;
		if (next_is(p, '-') && p->end - p->at > 1 && p->at[1] != ']') {
			p->at++;
			if (!take_member(p, &s, &most))
				return fail(p, "A range ends in a class");
		}
		if (most < least)
			return fail(p, "A range goes backwards");
		if (!charset_add(&s, least, most))
			return fail(p, "The class is too large");
	}
	take(p, ']');
	if (inverted && !charset_invert(&s))
		return fail(p, "The class is too large");
	return finish_class(p, &s);
}

/* ---- atoms ---- */

static struct part take_choice(struct parser *p);

/* Behind the opening parenthesis. */
static struct part take_group(struct parser *p)
{
	struct part r;

	if (take(p, '?')) {
		if (take(p, 'P') || next_is(p, '<')) {
			const char *name = p->at + 1;

			if (!take(p, '<') || next_is(p, '=') || next_is(p, '!'))
				return fail(p, "Looking around is not supported");
			while (p->at < p->end && *p->at != '>' && *p->at != ')')
				p->at++;
			if (p->at == name || !take(p, '>'))
				return fail(p, "A group has no name");
		} else if (!take(p, ':')) {
			return fail(p, next_is(p, '=') || next_is(p, '!') ? "Looking around is not supported"
									  : "Flags are not supported");
		}
	}
	if (p->depth == REGEX_DEPTH)
		return fail(p, "Groups are nested too deeply");
	p->depth++;
	r = take_choice(p);
	p->depth--;
	if (!take(p, ')'))
		return fail(p, "A parenthesis is not closed");
	r.code = -1;
	return r;
}

static struct part one_character(int32_t code)
{
	return (struct part){ .expr = EXPR_EMPTY, .least = 1, .most = 1, .code = code };
}

static struct part take_atom(struct parser *p)
{
	struct part anchor = nothing;
	struct charset s;

	switch (*p->at) {
	case '(':
		p->at++;
		return take_group(p);
	case '[':
		p->at++;
		return take_class(p);
	case '.':
		p->at++;
		s = line_ends;
		charset_invert(&s);
		return finish_class(p, &s);
	case '^':
	case '$':
		anchor.begins = *p->at == '^';
		anchor.ends = *p->at++ == '$';
		return anchor;
	case '\\':
		p->at++;
		if (p->at < p->end && named_class(*p->at, &s)) {
			p->at++;
			return finish_class(p, &s);
		}
		return one_character(take_escaped(p));
	case '*':
	case '+':
	case '?':
	case '{':
		return fail(p, "There is nothing to repeat; a brace is written \\{");
	default:
		return one_character((int32_t)take_code(p));
	}
}

/* ---- repetitions ---- */

static uint32_t times(uint32_t a, uint32_t n)
{
	const uint64_t all = (uint64_t)a * n;

	return a && n && (a == GRAMMAR_MANY || n == GRAMMAR_MANY || all >= GRAMMAR_MANY) ? GRAMMAR_MANY : (uint32_t)all;
}

static uint32_t plus(uint32_t a, uint32_t b)
{
	return a == GRAMMAR_MANY || b >= GRAMMAR_MANY - a ? GRAMMAR_MANY : a + b;
}

static bool take_number(struct parser *p, uint32_t *ret)
{
	const char *first = p->at;

	*ret = 0;
	for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
		*ret = *ret > GRAMMAR_COUNT ? *ret : *ret * 10 + (uint32_t)(*p->at - '0');
	if (*ret > GRAMMAR_COUNT)
		fail(p, "A count is too large");
	return p->at > first;
}

/* What stands in braces. */
static void take_counts(struct parser *p, uint32_t *least, uint32_t *most)
{
	bool good = take_number(p, least);

	*most = *least;
	if (good && take(p, ',')) {
		*most = GRAMMAR_MANY;
		if (!next_is(p, '}'))
			good = take_number(p, most);
	}
	if (!good || !take(p, '}') || *most < *least)
		fail(p, "The counts in braces make no sense");
}

static bool take_repetition(struct parser *p, uint32_t *least, uint32_t *most)
{
	*least = next_is(p, '+') ? 1 : 0;
	*most = next_is(p, '?') ? 1 : GRAMMAR_MANY;
	if (take(p, '{'))
		take_counts(p, least, most);
	else if (!take(p, '*') && !take(p, '+') && !take(p, '?'))
		return false;
	if (next_is(p, '+'))
		fail(p, "Possessive repetitions are not supported");
	take(p, '?');
	return true;
}

static int32_t spell(struct parser *p, int32_t code)
{
	char text[8];

	return grammar_text(p->g, text, charset_spell((uint32_t)code, p->form, text));
}

static struct part repeat(struct parser *p, struct part of, uint32_t least, uint32_t most)
{
	if (of.begins || of.ends)
		return fail(p, "An anchor cannot be repeated");
	if (of.code >= 0)
		of.expr = spell(p, of.code);
	return (struct part){ .expr = grammar_repeat(p->g, of.expr, least, most),
			      .least = times(of.least, least),
			      .most = times(of.most, most),
			      .code = -1 };
}

/* ---- sequences and alternatives ---- */

struct list {
	int32_t *id;
	size_t count, room;
};

static void list_add(struct parser *p, struct list *l, int32_t id)
{
	if (l->count == l->room) {
		const size_t room = l->room ? 2 * l->room : 8;
		int32_t *more = realloc(l->id, room * sizeof(*more));

		if (!more) {
			p->failed = true;
			err_set(p->e, SINK_ENOMEM, "There is no memory for a pattern.");
			return;
		}
		l->id = more;
		l->room = room;
	}
	l->id[l->count++] = id;
}

struct sequence {
	struct list parts;
	char *text; /* characters that were not added yet */
	size_t len;
};

static void end_text(struct parser *p, struct sequence *s)
{
	if (s->len)
		list_add(p, &s->parts, grammar_text(p->g, s->text, s->len));
	s->len = 0;
}

/* One more part behind the others. */
static void append(struct parser *p, struct sequence *s, struct part one, struct part *all)
{
	const bool says = one.most || one.expr != EXPR_EMPTY || one.code >= 0;

	if ((one.begins && (s->parts.count || s->len)) || (all->ends && says))
		fail(p, "An anchor in the middle matches nothing");
	all->begins = all->begins || one.begins;
	all->ends = all->ends || one.ends;
	all->least = plus(all->least, one.least);
	all->most = plus(all->most, one.most);
	if (one.code >= 0) {
		char spelled[8];
		const size_t len = charset_spell((uint32_t)one.code, p->form, spelled);

		memcpy(s->text + s->len, spelled, len);
		s->len += len;
		return;
	}
	end_text(p, s);
	if (says)
		list_add(p, &s->parts, one.expr);
}

static struct part take_sequence(struct parser *p)
{
	struct sequence s = { .text = malloc((size_t)(p->end - p->at) * 6 + 8) };
	struct part all = nothing;

	if (!s.text) {
		p->failed = true;
		err_set(p->e, SINK_ENOMEM, "There is no memory for a pattern.");
	}
	while (!p->failed && p->at < p->end && *p->at != '|' && *p->at != ')') {
		struct part one = take_atom(p);
		uint32_t least, most;

		if (!p->failed && take_repetition(p, &least, &most) && !p->failed)
			one = repeat(p, one, least, most);
		if (!p->failed)
			append(p, &s, one, &all);
	}
	if (!p->failed)
		end_text(p, &s);
	all.expr = grammar_seq(p->g, s.parts.id, s.parts.count);
	free(s.text);
	free(s.parts.id);
	return all;
}

static struct part take_choice(struct parser *p)
{
	struct part r = take_sequence(p);
	struct list choices = { 0 };

	list_add(p, &choices, r.expr);
	while (!p->failed && take(p, '|')) {
		const struct part one = take_sequence(p);

		list_add(p, &choices, one.expr);
		r.least = one.least < r.least ? one.least : r.least;
		r.most = one.most > r.most ? one.most : r.most;
		r.begins = r.begins || one.begins;
		r.ends = r.ends || one.ends;
	}
	r.expr = grammar_any(p->g, choices.id, choices.count);
	free(choices.id);
	return r;
}

int regex_parse(struct grammar *g, const char *pattern, size_t len, enum charset_form form, struct regex *ret,
		struct err *e)
{
	struct err why = { 0 };
	struct parser p = { .g = g, .begin = pattern, .at = pattern, .end = pattern + len, .form = form, .e = &why };
	struct part all;

	if (len > REGEX_BYTES)
		return err_set(e, SINK_EINVAL, "The pattern has %zu bytes; %d are possible.", len, REGEX_BYTES);
	if (utf8_valid(pattern, len) != len)
		return err_set(e, SINK_EINVAL, "The pattern is no UTF-8.");
	all = take_choice(&p);
	if (!p.failed && p.at < p.end)
		fail(&p, "A parenthesis closes nothing");
	if (p.failed)
		return err_set(e, why.code, "%s", why.text);
	*ret = (struct regex){ all.expr, all.least, all.most };
	return 0;
}
