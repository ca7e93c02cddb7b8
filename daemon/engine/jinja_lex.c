/*
 * The words of a template. Text outside of tags is data; blanks around tags go as jinja2's lexer drops them with
 * trim_blocks and lstrip_blocks, which a template's bytes depend on.
 */
#include "jinja_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool begins(const struct jinja_lexer *l, const char *text)
{
	size_t len = strlen(text);

	return (size_t)(l->end - l->at) >= len && memcmp(l->at, text, len) == 0;
}

static void skip(struct jinja_lexer *l, size_t bytes)
{
	for (; bytes; bytes--, l->at++)
		l->line += *l->at == '\n';
}

static size_t space_at(const char *at, const char *end)
{
	struct jinja_text s = { at, NULL, (size_t)(end - at) };
	size_t bytes = s.len ? jinja_character(s, 0) : 0;

	return bytes && jinja_is_space(s, 0, bytes) ? bytes : 0;
}

static void skip_spaces(struct jinja_lexer *l)
{
	size_t bytes;

	while ((bytes = space_at(l->at, l->end)))
		skip(l, bytes);
}

/* Behind the end of a tag, which may say "-" (and was passed): blanks, or with `trims` one line feed, go. */
static void end_tag(struct jinja_lexer *l, bool minus, bool trims)
{
	const char *begin = l->at;

	if (minus)
		skip_spaces(l);
	else if (trims && begins(l, "\n"))
		skip(l, 1);
	l->at_begin = l->at > begin && l->at[-1] == '\n';
}

/* Data up to `end`, less the blanks that the tag there takes: its sign is behind its two first characters. */
static struct jinja_text data_before(struct jinja_lexer *l, const char *end)
{
	struct jinja_text s = { l->at, NULL, (size_t)(end - l->at) };
	char sign = l->end - end > 2 ? end[2] : '\0';

	if (sign == '-')
		return jinja_strip(s, NULL, 2);
	if (sign != '+' && l->end - end > 1 && end[1] != '{') {
		const char *line = memrchr(s.at, '\n', s.len);
		struct jinja_text last;

		line = line ? line + 1 : s.at;
		last = (struct jinja_text){ line, NULL, (size_t)(end - line) };
		if ((line > s.at || l->at_begin) && !jinja_strip(last, NULL, 2).len)
			s.len = (size_t)(line - s.at);
	}
	return s;
}

static const char *find(const char *at, const char *end, const char *text)
{
	return memmem(at, (size_t)(end - at), text, strlen(text));
}

/* The next {{, {% or {#, or the end. */
static const char *find_tag(const struct jinja_lexer *l)
{
	const char *at = l->at;

	while ((at = memchr(at, '{', (size_t)(l->end - at)))) {
		if (l->end - at > 1 && (at[1] == '{' || at[1] == '%' || at[1] == '#'))
			return at;
		at++;
	}
	return l->end;
}

static void skip_comment(struct jinja_lexer *l)
{
	const char *end = l->end - l->at >= 2 ? find(l->at + 2, l->end, "#}") : NULL;
	char sign;

	if (!end)
		jinja_fail(l->r, SINK_EFORMAT, "A comment has no end.");
	sign = end > l->at + 2 ? end[-1] : '\0';
	skip(l, (size_t)(end + 2 - l->at));
	end_tag(l, sign == '-', sign != '+');
}

/* Whether a tag at `at` is {% NAME %}; `ret` is what stands behind it, `sign` the one before its end. */
static bool is_tag(const struct jinja_lexer *l, const char *at, const char *name, const char **ret, char *sign)
{
	size_t bytes, len = strlen(name);

	at += 2;
	if (at < l->end && (*at == '-' || *at == '+'))
		at++;
	while ((bytes = space_at(at, l->end)))
		at += bytes;
	if ((size_t)(l->end - at) < len || memcmp(at, name, len) != 0)
		return false;
	at += len;
	while ((bytes = space_at(at, l->end)))
		at += bytes;
	*sign = at < l->end && (*at == '-' || *at == '+') ? *at++ : '\0';
	if (l->end - at < 2 || at[0] != '%' || at[1] != '}')
		return false;
	*ret = at + 2;
	return true;
}

static bool begin_raw(struct jinja_lexer *l)
{
	const char *behind;
	char sign;

	if (!is_tag(l, l->at, "raw", &behind, &sign) || sign == '+')
		return false;
	skip(l, (size_t)(behind - l->at));
	end_tag(l, sign == '-', false);
	l->raw = true;
	return true;
}

static struct jinja_token raw_data(struct jinja_lexer *l)
{
	struct jinja_token t = { .word = JINJA_W_DATA, .line = l->line };
	const char *behind, *at = l->at;
	char sign;

	while ((at = find(at, l->end, "{%")) && !is_tag(l, at, "endraw", &behind, &sign))
		at++;
	if (!at)
		jinja_fail(l->r, SINK_EFORMAT, "{%% raw %%} has no end.");
	t.text = data_before(l, at);
	skip(l, (size_t)(behind - l->at));
	end_tag(l, sign == '-', sign != '+');
	l->raw = false;
	return t;
}

/* Outside of tags: data, or the begin of a tag. */
static struct jinja_token lex_data(struct jinja_lexer *l)
{
	struct jinja_token t = { .line = l->line };

	for (;;) {
		const char *tag = find_tag(l);

		if (l->raw)
			return raw_data(l);
		t.word = JINJA_W_DATA;
		t.text =
			tag == l->end ? (struct jinja_text){ l->at, NULL, (size_t)(tag - l->at) } : data_before(l, tag);
		skip(l, (size_t)(tag - l->at));
		if (t.text.len)
			l->at_begin = false; /* the tag is next, and nothing before it is looked at again */
		if (t.text.len || tag == l->end) {
			t.word = t.text.len ? JINJA_W_DATA : JINJA_W_END;
			return t;
		}
		if (tag[1] == '#') {
			skip_comment(l);
			continue;
		}
		if (tag[1] == '%' && begin_raw(l))
			continue;
		t.line = l->line;
		t.word = tag[1] == '%' ? JINJA_W_BLOCK : JINJA_W_PRINT;
		l->inside = tag[1];
		skip(l, 2);
		if (l->at < l->end && (*l->at == '-' || *l->at == '+'))
			skip(l, 1);
		return t;
	}
}

/* ---- inside of tags ---- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static struct jinja_token lex_name(struct jinja_lexer *l)
{
	struct jinja_token t = { .word = JINJA_W_NAME, .line = l->line };
	const char *begin = l->at;
	char *copy;

	while (l->at < l->end && (is_letter(*l->at) || is_digit(*l->at)))
		l->at++;
	t.text.len = (size_t)(l->at - begin);
	copy = jinja_take(l->r, t.text.len + 1);
	memcpy(copy, begin, t.text.len);
	t.text.at = copy;
	return t;
}

static struct jinja_token lex_number(struct jinja_lexer *l)
{
	struct jinja_token t = { .word = JINJA_W_INT, .line = l->line };
	char digits[64];
	size_t n = 0;

	for (; l->at < l->end && n < sizeof(digits) - 1; l->at++) {
		char c = *l->at, next = l->end - l->at > 1 ? l->at[1] : '\0';
		bool has_digits =
			is_digit(next) || ((next == '-' || next == '+') && l->end - l->at > 2 && is_digit(l->at[2]));

		if (c == '_' && is_digit(next))
			continue;
		if ((c == '.' && t.word == JINJA_W_INT && is_digit(next)) || ((c == 'e' || c == 'E') && has_digits)) {
			t.word = JINJA_W_FLOAT;
		} else if (!is_digit(c) && !((c == '-' || c == '+') && n && (digits[n - 1] | 32) == 'e')) {
			break;
		}
		digits[n++] = c;
	}
	digits[n] = '\0';
	errno = 0;
	if (t.word == JINJA_W_FLOAT)
		t.d = strtod(digits, NULL);
	else
		t.i = strtoll(digits, NULL, 10);
	if (errno == ERANGE || n == sizeof(digits) - 1 || (l->at < l->end && is_letter(*l->at)))
		jinja_fail(l->r, SINK_EFORMAT, "A number \"%s...\" is none that is known here.", digits);
	return t;
}

/* The character behind a backslash; a character that needs none stays with it, as in Python. */
static size_t unescape(struct jinja_lexer *l, char *to)
{
	static const char escapes[] = "n\nt\tr\r'\'\"\"\\\\a\ab\bf\fv\v";
	char c = *l->at++;
	size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;

	if (digits) {
		char hex[9] = { 0 }, *end;
		uint32_t code;

		for (size_t i = 0; i < digits && l->at < l->end; i++)
			hex[i] = *l->at++;
		code = (uint32_t)strtoul(hex, &end, 16);
		if (strlen(hex) != digits || *end || !strchr("0123456789abcdefABCDEF", hex[0]) || code > 0x10ffff ||
		    (code >= 0xd800 && code < 0xe000))
			jinja_fail(l->r, SINK_EFORMAT, "\"\\%c%s\" is no character.", c, hex);
		return jinja_put_utf8(to, code);
	}
	for (const char *e = escapes; *e; e += 2)
		if (*e == c) {
			*to = e[1];
			return 1;
		}
	if (is_digit(c))
		jinja_fail(l->r, SINK_EFORMAT, "A character by its octal number is outside of what is known here.");
	if (c == '\n') {
		l->line++;
		return 0;
	}
	to[0] = '\\';
	to[1] = c;
	return 2;
}

static struct jinja_token lex_text(struct jinja_lexer *l)
{
	struct jinja_token t = { .word = JINJA_W_TEXT, .line = l->line };
	char quote = *l->at++;
	const char *end = l->at;
	char *to;

	for (; end < l->end && *end != quote; end++)
		end += *end == '\\';
	if (end >= l->end)
		jinja_fail(l->r, SINK_EFORMAT, "A text has no end.");
	to = jinja_take(l->r, (size_t)(end - l->at) + 4);
	t.text.at = to;
	while (l->at < end) {
		if (*l->at == '\\') {
			l->at++;
			to += unescape(l, to);
			continue;
		}
		l->line += *l->at == '\n';
		*to++ = *l->at++;
	}
	l->at = end + 1;
	t.text.len = (size_t)(to - t.text.at);
	return t;
}

static struct jinja_token lex_operator(struct jinja_lexer *l)
{
	static const struct {
		char text[3];
		int op;
	} twos[] = { { "==", JINJA_OP_EQ }, { "!=", JINJA_OP_NE },    { "<=", JINJA_OP_LE },
		     { ">=", JINJA_OP_GE }, { "**", JINJA_OP_POWER }, { "//", JINJA_OP_FLOOR } };
	struct jinja_token t = { .word = JINJA_W_OPERATOR, .line = l->line };

	for (size_t i = 0; i < sizeof(twos) / sizeof(twos[0]); i++)
		if (begins(l, twos[i].text)) {
			l->at += 2;
			t.op = twos[i].op;
			return t;
		}
	t.op = (unsigned char)*l->at++;
	if (!strchr("+-/*%~[](){}<>=.:|,;", t.op) || !t.op)
		jinja_fail(l->r, SINK_EFORMAT, "The character 0x%02x is outside of what is known here.",
			   (unsigned)t.op);
	if (strchr("([{", t.op))
		l->open++;
	else if (strchr(")]}", t.op) && l->open-- == 0)
		jinja_fail(l->r, SINK_EFORMAT, "A bracket \"%c\" closes nothing.", t.op);
	return t;
}

/* The end of the tag, if it is here. */
static bool lex_end(struct jinja_lexer *l)
{
	const char *end = l->inside == '%' ? "%}" : "}}";
	char sign = *l->at;

	if (l->open)
		return false;
	if (sign == '-' || (sign == '+' && l->inside == '%'))
		l->at++;
	if (!begins(l, end)) {
		if (sign == '-' || (sign == '+' && l->inside == '%'))
			l->at--;
		return false;
	}
	skip(l, 2);
	end_tag(l, sign == '-', sign != '+' && l->inside == '%');
	l->inside = '\0';
	return true;
}

struct jinja_token jinja_lex(struct jinja_lexer *l)
{
	struct jinja_token t = { 0 };

	jinja_steps(l->r, 1);
	if (!l->inside)
		return lex_data(l);
	skip_spaces(l);
	t.line = l->line;
	if (l->at == l->end)
		jinja_fail(l->r, SINK_EFORMAT, "A tag has no end.");
	t.word = l->inside == '%' ? JINJA_W_BLOCK_END : JINJA_W_PRINT_END;
	if (lex_end(l))
		return t;
	if (is_letter(*l->at))
		return lex_name(l);
	if (is_digit(*l->at))
		return lex_number(l);
	if (*l->at == '\'' || *l->at == '"')
		return lex_text(l);
	return lex_operator(l);
}
