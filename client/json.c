/*
 * A scanner that only knows where values begin and end: strings with their escapes, and brackets that nest. It builds
 * nothing, because the client never needs the inside of a value that it prints, and of a file that it reads only a few.
 * What a file holds is checked as a whole first, by a second, strict pass, so that the scanner may stay simple.
 */
#include "json.h"

#include <string.h>

static size_t skip_blanks(struct json text, size_t at)
{
	while (at < text.size && strchr(" \t\r\n", text.text[at]) && text.text[at])
		at++;
	return at;
}

/* Behind the string that begins at `at`. */
static size_t skip_string(struct json text, size_t at)
{
	for (at++; at < text.size && text.text[at] != '"'; at++)
		if (text.text[at] == '\\' && at + 1 < text.size)
			at++;
	return at < text.size ? at + 1 : at;
}

/* Behind the value that begins at `at`. */
static size_t skip_value(struct json text, size_t at)
{
	size_t depth = 0;

	while (at < text.size) {
		char c = text.text[at];

		if (!depth && (c == ',' || c == ']' || c == '}'))
			break;
		if (c == '"') {
			at = skip_string(text, at);
			continue;
		}
		if (c == '{' || c == '[')
			depth++;
		if (c == '}' || c == ']')
			depth--;
		at++;
	}
	return at;
}

static struct json piece(struct json text, size_t from, size_t to)
{
	while (to > from && strchr(" \t\r\n", text.text[to - 1]) && text.text[to - 1])
		to--;
	return (struct json){ text.text + from, to - from };
}

/* Behind a comma, when one stands at `at`. */
static size_t skip_comma(struct json text, size_t at)
{
	at = skip_blanks(text, at);
	return at < text.size && text.text[at] == ',' ? at + 1 : at;
}

bool json_member(struct json text, const char *key, struct json *ret)
{
	size_t at = skip_blanks(text, 0) + 1, len = strlen(key);

	for (;;) {
		size_t from, to;

		from = skip_blanks(text, at);
		if (from >= text.size || text.text[from] != '"')
			return false;
		to = skip_string(text, from);
		at = skip_blanks(text, to);
		if (at >= text.size || text.text[at] != ':')
			return false;
		at = skip_blanks(text, at + 1);
		if (to - from == len + 2 && memcmp(text.text + from + 1, key, len) == 0) {
			*ret = piece(text, at, skip_value(text, at));
			return true;
		}
		at = skip_comma(text, skip_value(text, at));
	}
}

bool json_next(struct json array, size_t *at, struct json *ret)
{
	size_t from = *at ? *at : skip_blanks(array, 0) + 1, to;

	from = skip_blanks(array, from);
	if (from >= array.size || array.text[from] == ']')
		return false;
	to = skip_value(array, from);
	*ret = piece(array, from, to);
	*at = skip_comma(array, to);
	return true;
}

/* ---- the strict pass ---- */

enum { DEPTH_MOST = 64 };

static bool value(struct json t, size_t *at, int depth);

/* Passes over one character of a set that must stand there. */
static bool take(struct json t, size_t *at, const char *set)
{
	if (*at >= t.size || !t.text[*at] || !strchr(set, t.text[*at]))
		return false;
	(*at)++;
	return true;
}

static size_t digits(struct json t, size_t *at)
{
	size_t from = *at;

	while (take(t, at, "0123456789"))
		;
	return *at - from;
}

static bool number(struct json t, size_t *at)
{
	size_t first;

	take(t, at, "-");
	first = *at;
	if (!digits(t, at) || (t.text[first] == '0' && *at > first + 1))
		return false;
	if (take(t, at, ".") && !digits(t, at))
		return false;
	if (!take(t, at, "eE"))
		return true;
	take(t, at, "+-");
	return digits(t, at) > 0;
}

static bool string(struct json t, size_t *at)
{
	if (!take(t, at, "\""))
		return false;
	while (*at < t.size && t.text[*at] != '"') {
		unsigned char c = (unsigned char)t.text[(*at)++];

		if (c < 0x20)
			return false;
		if (c != '\\')
			continue;
		if (take(t, at, "u")) {
			for (int i = 0; i < 4; i++)
				if (!take(t, at, "0123456789abcdefABCDEF"))
					return false;
		} else if (!take(t, at, "\"\\/bfnrt")) {
			return false;
		}
	}
	return take(t, at, "\"");
}

/* An object or an array, from behind its opening bracket. */
static bool members(struct json t, size_t *at, int depth, bool named, const char *end)
{
	*at = skip_blanks(t, *at);
	if (take(t, at, end))
		return true;
	do {
		*at = skip_blanks(t, *at);
		if (named) {
			if (!string(t, at))
				return false;
			*at = skip_blanks(t, *at);
			if (!take(t, at, ":"))
				return false;
		}
		if (!value(t, at, depth))
			return false;
	} while (take(t, at, ","));
	return take(t, at, end);
}

static bool word(struct json t, size_t *at)
{
	static const char *const words[] = { "true", "false", "null" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t len = strlen(words[i]);

		if (t.size - *at >= len && memcmp(t.text + *at, words[i], len) == 0) {
			*at += len;
			return true;
		}
	}
	return false;
}

/* A value with the blanks around it. Recursion ends at DEPTH_MOST. */
static bool value(struct json t, size_t *at, int depth)
{
	bool good;

	*at = skip_blanks(t, *at);
	if (*at >= t.size || depth == DEPTH_MOST)
		return false;
	if (take(t, at, "{"))
		good = members(t, at, depth + 1, true, "}");
	else if (take(t, at, "["))
		good = members(t, at, depth + 1, false, "]");
	else if (t.text[*at] == '"')
		good = string(t, at);
	else
		good = word(t, at) || number(t, at);
	*at = skip_blanks(t, *at);
	return good;
}

bool json_valid(struct json text)
{
	size_t at = 0;

	return value(text, &at, 0) && at == text.size && buf_utf8(text.text, text.size) == text.size;
}

/* ---- strings ---- */

static unsigned hex(const char *four)
{
	unsigned c = 0;

	for (int i = 0; i < 4; i++)
		c = c * 16 + (unsigned)(four[i] <= '9' ? four[i] - '0' : (four[i] | 0x20) - 'a' + 10);
	return c & 0xffff;
}

static void add_character(struct buf *b, unsigned c)
{
	char s[4];

	if (c < 0x80) {
		s[0] = (char)c;
		buf_add(b, s, 1);
	} else if (c < 0x800) {
		s[0] = (char)(0xc0 | c >> 6);
		s[1] = (char)(0x80 | (c & 0x3f));
		buf_add(b, s, 2);
	} else if (c < 0x10000) {
		s[0] = (char)(0xe0 | c >> 12);
		s[1] = (char)(0x80 | (c >> 6 & 0x3f));
		s[2] = (char)(0x80 | (c & 0x3f));
		buf_add(b, s, 3);
	} else {
		s[0] = (char)(0xf0 | c >> 18);
		s[1] = (char)(0x80 | (c >> 12 & 0x3f));
		s[2] = (char)(0x80 | (c >> 6 & 0x3f));
		s[3] = (char)(0x80 | (c & 0x3f));
		buf_add(b, s, 4);
	}
}

/* The escape behind a backslash at `at`; returns what lies behind it. */
static size_t add_escape(struct json v, size_t at, struct buf *b)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	const char *known = v.text[at] ? strchr(from, v.text[at]) : NULL;
	unsigned c, low;

	if (v.text[at] != 'u') {
		buf_add(b, known ? &to[known - from] : v.text + at, 1);
		return at + 1;
	}
	if (v.size - at < 5)
		return v.size;
	c = hex(v.text + at + 1);
	at += 5;
	if (c >= 0xd800 && c < 0xdc00 && v.size - at >= 6 && v.text[at] == '\\' && v.text[at + 1] == 'u') {
		low = hex(v.text + at + 2);
		if (low >= 0xdc00 && low < 0xe000) {
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			at += 6;
		}
	}
	add_character(b, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
	return at;
}

bool json_unquote(struct json v, struct buf *b)
{
	size_t at = 1, from;

	if (v.size < 2 || v.text[0] != '"')
		return false;
	while (at < v.size && v.text[at] != '"') {
		from = at;
		while (at < v.size && v.text[at] != '"' && v.text[at] != '\\')
			at++;
		buf_add(b, v.text + from, at - from);
		if (at + 1 < v.size && v.text[at] == '\\')
			at = add_escape(v, at + 1, b);
		else if (at < v.size && v.text[at] == '\\')
			at++;
	}
	return true;
}

void json_quote(struct buf *b, const char *text)
{
	buf_adds(b, "\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			buf_addf(b, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			buf_addf(b, "\\u%04x", (unsigned)(unsigned char)*text);
		else
			buf_add(b, text, 1);
	}
	buf_adds(b, "\"");
}
